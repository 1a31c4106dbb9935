"""The records that members are run by: runs and their secrets are read once, signatures checked where this worker has keys."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from taskensemble.engine import signing
from taskensemble.engine.records import MemberRecord, RunRecord
from taskensemble.engine.store import Store
from workers.files import TransferredFiles
from workers.process import Attempt

_RUNS = 64
"""How many runs' records are kept at the most."""


class TrustedRecords:
    """The records that the attempts of one worker need.

    Arguments:
        attempts: those that hold a slot, by number.
    """

    def __init__(self, store: Store, files: TransferredFiles, attempts: Mapping[int, Attempt]) -> None:
        self._store = store
        self._files = files
        self._attempts = attempts
        self._runs: dict[str, RunRecord] = {}
        self._secrets: dict[tuple[str, int], dict[str, str]] = {}

    def read(self, attempt: Attempt, text: str) -> None:
        """Gives an attempt its run's and its member's record, with the paths that they have on this host.

        Arguments:
            text: the member's record, as the claim's answer has it.

        Raises:
            SignatureError: this worker has keys, and a record is not signed with one, or is that of another member.
            TaskensembleError, OSError, ValueError, RedisError: a record could not be read.
        """
        attempt.run = run = self._run(attempt.run_id)
        attempt.member = _member(attempt, text)
        if run.transfer is not None:
            attempt.member = self._files.scratch.localized_member(run, attempt.member)
        names, number = attempt.template.secrets, attempt.member.template
        if names and (attempt.run_id, number) not in self._secrets:
            found = self._store.secrets(attempt.run_id)
            known = {name: found[f"{number}:{name}"] for name in names if f"{number}:{name}" in found}
            self._secrets[attempt.run_id, number] = known
        attempt.secrets = self.secrets(attempt.run_id, number)

    def run(self, run_id: str) -> RunRecord:
        """A run's record, if need be read anew and unchecked: for what is done when its members have ended."""
        return self._runs.get(run_id) or self._store.run(run_id)

    def secrets(self, run_id: str, template: int) -> Mapping[str, str]:
        """The values of a template's secret variables."""
        return self._secrets.get((run_id, template), {})

    def keep(self, active: Collection[str]) -> None:
        """Forgets what is not of these runs."""
        self._runs = {run_id: run for run_id, run in self._runs.items() if run_id in active}
        self._secrets = {key: known for key, known in self._secrets.items() if key[0] in self._runs}

    def _run(self, run_id: str) -> RunRecord:
        run = self._runs.get(run_id)
        if run is None:
            if len(self._runs) >= _RUNS:
                self._runs.clear()
            run = self._store.trusted_run(run_id)
            if run.transfer is not None:
                run = self._files.localized(run, {attempt.run_id for attempt in self._attempts.values()})
            self._runs[run_id] = run
        return run


def _member(attempt: Attempt, text: str) -> MemberRecord:
    """A claimed member's record."""
    keys = signing.from_environment()
    if keys is None:
        return MemberRecord.model_validate_json(text)
    member = MemberRecord.model_validate_json(keys.unseal(signing.MEMBER, attempt.run_id, text))
    if (member.index, member.entity) != (attempt.index, attempt.entity):
        raise signing.SignatureError(f"it is the record of member {member.index} of entity {member.entity}")
    return member
