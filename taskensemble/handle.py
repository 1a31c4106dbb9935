"""A started run as its driver holds it, or as another process finds it again by its id."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskensemble.checked import checked
from taskensemble.engine.records import (
    AttemptRecord,
    EntityRecord,
    EventRecord,
    MemberRecord,
    RunRecord,
    RunStatus,
    State,
)
from taskensemble.errors import (
    AssetError,
    ControlPlaneError,
    InputError,
    InputTypeError,
    RunFailedError,
    RunNotFoundError,
)
from taskensemble.progress import Progress, Quiet

if TYPE_CHECKING:
    from taskensemble.launch.control import ControlPlane

NOTES = 10
"""Failed members that a wait names one by one; a run with more is told in numbers."""
MANY = 10_000
"""Events that are read at one time."""
PAUSE = 0.03
"""Seconds from one look to the next, on average, where events do not stop."""
AT_ONCE = 12
"""Looks that may follow each other without a pause: more than a run of one member needs."""
LONELY = 3.0
"""Seconds that a run may wait for its setup before somebody is told that there is no worker."""
BEAT = 0.5
"""Seconds that a wait blocks at most before it looks at the counters again."""


@checked
class RunHandle:
    """One run: wait for it, watch it, stop it, read what became of its members."""

    def __init__(self, control: ControlPlane, run: RunRecord, *, collects: bool = False) -> None:
        self._control = control
        self.record = run
        self._collects = collects and run.transfer is not None
        self._cursor = "0"
        self._looked = 0.0
        self._looks = float(AT_ONCE)
        self._final: RunStatus | None = None

    @classmethod
    def open(cls, control: ControlPlane, run_id: str, *, collects: bool = False) -> RunHandle:
        """The run of that id.

        Parameters:
            collects: write the files that members send back where hosts share no file system: the driver's duty

        Raises:
            RunNotFoundError: the control plane has no such run
        """
        return cls(control, control.store.run(run_id), collects=collects)

    @property
    def run_id(self) -> str:
        """The run's id, for `reconnect`, `resume` and the command line."""
        return self.record.run_id

    def __repr__(self) -> str:
        return f"<run {self.run_id}: {', '.join(entity.name for entity in self.record.entities)}>"

    @property
    def known_final(self) -> RunStatus | None:
        """The run's last status, once it was seen to have ended."""
        return self._final

    def status(self) -> RunStatus:
        """The run's state and how many of its members are in which."""
        if self._final is not None:
            return self._final
        status = self._control.store.status(self.run_id)
        if status.state.final:
            self._collect()
            self._final = status
        return status

    def finished(self) -> bool:
        """Whether the run has ended."""
        return self.status().state.final

    def wait(self, timeout: float | None = None, *, progress: Progress | None = None) -> RunStatus:
        """Wait until the run has ended.

        Parameters:
            timeout: seconds; None: as long as it takes
            progress: what shows the state meanwhile; None: nothing

        Returns:
            RunStatus: the last one. Failed members are counted there; they raise nothing.

        Raises:
            InputTypeError, InputError: a timeout that is no number of seconds
            TimeoutError: it has not ended in time
            AssetError: an ML asset could not be loaded, so that no member started
            RunFailedError: the run failed as a whole for another reason
        """
        _check_timeout(timeout)
        status = self._final or self._follow(timeout, progress or Quiet(), until_assets=False)
        self._raise_failure(status)
        return status

    def wait_for_assets(self) -> None:
        """Wait until setup has loaded and checked the run's assets.

        Raises:
            AssetError, RunFailedError: as `wait`
        """
        self._raise_failure(self._follow(None, Quiet(), until_assets=True))

    def stop(
        self, timeout: float | None = None, *, entity: int | None = None, reason: str = "stopped by the driver"
    ) -> RunStatus:
        """Cancel what waits and end what runs: SIGTERM, the grace period, SIGKILL. Returns when nothing of it is alive.

        Parameters:
            timeout: seconds to wait for the end; None: the longest grace period of its members and 30 more
            entity: index of one entity of the run; None: all
            reason: what the members' records say

        Raises:
            InputTypeError, InputError: a timeout that is no number of seconds
            TimeoutError: something is still alive; the message names it
            ControlPlaneError: the control plane does not answer; or the driver has died, and others of its runs have not ended
        """
        from redis import ConnectionError as Unreachable

        _check_timeout(timeout)
        if timeout is None:
            timeout = self._patience()
        deadline = time.monotonic() + timeout
        told = False
        while True:
            if self._final is None and self._control.has_ended:
                # Its driver has ended with it, and so has everything that ran: what is left to do is its record.
                self._control.take_over()
                told = False
                deadline = time.monotonic() + timeout
            try:
                if self._over(entity):
                    return self.status()
                if not told:
                    self._tell_to_stop(entity, reason)
                    self._close_what_was_left()
                    told = True
            except Unreachable as error:
                if self._control.has_ended:
                    continue
                raise ControlPlaneError(
                    f"The run {self.run_id} was told to stop, but its control plane no longer answers: {error}"
                ) from error
            if time.monotonic() > deadline:
                alive = [member.name for member, attempt in self.members(entity) if attempt.state is State.RUNNING]
                named = ", ".join(alive[:5]) + (f" and {len(alive) - 5} more" if len(alive) > 5 else "")
                raise TimeoutError(
                    f"{named or 'The run ' + self.run_id} has not ended within {timeout:g} s after the stop."
                )
            self._control.check()
            time.sleep(0.05)

    def _tell_to_stop(self, entity: int | None, reason: str) -> None:
        from taskensemble.engine import messages

        self._control.store.cancel(self.run_id, entity, reason=reason)
        if entity is None:
            messages.delete_queues(self._control.broker_url, self.record)

    def _close_what_was_left(self) -> None:
        """Let a worker close the record of a run whose driver has died, where nobody else would: nothing of it runs any more.

        Raises:
            ControlPlaneError: the worker would go on with other runs of that driver's
        """
        if not self._control.is_own or self._control.has_worker or self._over(None):
            return
        store = self._control.store
        others = [
            run_id
            for run_id in store.active_runs()
            if run_id != self.run_id and not (status := store.status(run_id)).state.final and not status.reason
        ]
        if others:
            raise ControlPlaneError(
                f"The run {self.run_id} is told to stop, and nothing of it runs: its driver has ended. A worker closes its "
                f"record, but would go on with {others[0]} as well: stop that too, or let Experiment.reconnect go on with it."
            )
        self._control.start_worker(None)

    def stop_members(
        self, members: Iterable[int | str], timeout: float | None = None, *, reason: str = "stopped by the driver"
    ) -> None:
        """Stop single members: they are CANCELLED, whether they wait or run, and the others go on. A run that misses some of its
        members in this way ends CANCELLED, and `resume` runs them. Returns when nothing of them is alive.

        Parameters:
            members: their names or indexes
            timeout: seconds to wait for the end; None: the longest grace period of the run's members and 30 more
            reason: what the members' records say

        Raises:
            RunNotFoundError: the run has no such member
            TimeoutError: one is still alive; the message names it
        """
        store = self._control.store
        found = {record.index: record.name for record, _ in find_members(self, [str(member) for member in members])}
        store.stop_members(self.record, list(found), reason)
        limit = self._patience() if timeout is None else timeout
        deadline = time.monotonic() + limit
        while alive := [each.index for each in store.attempts(self.run_id, list(found)) if not each.state.final]:
            if time.monotonic() > deadline:
                named = ", ".join(found[index] for index in alive[:5])
                raise TimeoutError(f"{named} has not ended within {limit:g} s after the stop.")
            self._control.check()
            time.sleep(0.05)

    def waits(self) -> dict[int, str]:
        """What entities of the run wait for, by their index, where nothing of them runs or some of their members never could."""
        return self._control.store.waits(self.run_id)

    def members(self, entity: int | None = None) -> list[tuple[MemberRecord, AttemptRecord]]:
        """Every member with what is known of it, in order; of one entity, if its index is given."""
        entities = self.record.entities if entity is None else (self.record.entities[entity],)
        found: list[tuple[MemberRecord, AttemptRecord]] = []
        store = self._control.store
        for each in entities:
            records = store.members(self.run_id, each.first, each.first + each.size)
            attempts = store.attempts(self.run_id, range(each.first, each.first + each.size))
            found.extend(zip(records, attempts, strict=True))
        return found

    def failed_members(self) -> list[tuple[MemberRecord, AttemptRecord]]:
        """The members that failed, with what is known of them: the others are not read."""
        failed = [index for index, state in enumerate(self.member_states()) if state is State.FAILED]
        store = self._control.store
        return list(zip(store.members_at(self.run_id, failed), store.attempts(self.run_id, failed), strict=True))

    def member_states(self) -> list[State]:
        """The state of every member, in order: cheap, whatever their number."""
        return self._control.store.states(self.run_id)

    def member_names(self) -> list[str]:
        """The name of every member, in order: cheaper than the members."""
        store = self._control.store
        parts = [range(self.record.size)[start : start + MANY] for start in range(0, self.record.size, MANY)]
        return [name for part in parts for _, _, name in store.member_heads(self.run_id, part.start, part.stop)]

    def states(self) -> list[tuple[EntityRecord, State]]:
        """Every entity of the run with its state."""
        found = [(each.entity, each.state) for each in self._control.store.entity_status(self.run_id)]
        if any(state.final for _, state in found):
            self._collect()
        return found

    def results(self, entity: int | None = None) -> list[dict[str, Any]]:
        """One row a member: see `taskensemble.results.rows`."""
        from taskensemble.results import rows

        return rows(self.record, self.members(entity))

    def member_path(self, member: MemberRecord) -> Path:
        """The member's folder."""
        from taskensemble.generation import member_folder

        return member_folder(self.record.entities[member.entity], member)

    def _patience(self) -> float:
        """Seconds in which whatever was told to end has ended."""
        return 30.0 + max((template.policy.grace for template in self.record.templates), default=0.0)

    def _collect(self, index: int | None = None) -> None:
        """Write the folders of members that have ended and were sent back."""
        if self._collects:
            from taskensemble.transfer import collect

            collect(self._control.store, self.record, index)

    def _over(self, entity: int | None) -> bool:
        if entity is None:
            return self.status().state.final
        return any(record.index == entity and state.final for record, state in self.states())

    def _follow(self, timeout: float | None, progress: Progress, *, until_assets: bool) -> RunStatus:
        deadline = None if timeout is None else time.monotonic() + timeout
        noted: set[int] = set()
        begun = time.monotonic()
        lonely = False
        with progress:
            while True:
                status = self.status()
                progress.update(status)
                if status.state.final:
                    self._note_failures(progress, status, noted)
                    return status
                left = BEAT if deadline is None else min(BEAT, deadline - time.monotonic())
                if left <= 0:
                    raise TimeoutError(
                        f"The run {self.run_id} has not ended within {timeout:g} s: "
                        f"{status.queued} members wait and {status.running} run."
                    )
                self._control.check()
                if status.state is State.NEW and not lonely and time.monotonic() - begun > LONELY:
                    lonely = True
                    self._note_loneliness(progress)
                for event in self._events(left):
                    if event.kind == "assets" and until_assets:
                        return self.status()
                    if event.kind == "end" and event.index is not None:
                        self._collect(event.index)
                    if event.kind == "end" and event.state is State.FAILED and event.index is not None:
                        self._note_failure(progress, event.index, event.reason, noted)

    def _events(self, left: float) -> list[EventRecord]:
        """What has happened since the last look; if nothing has, what happens first within `left` seconds."""
        self._rest()
        store = self._control.store
        events = store.events(self.run_id, self._cursor, MANY)
        if not events:
            events = list(islice(store.watch(self.run_id, after=self._cursor, timeout=left), 1))
        if events:
            self._cursor = events[-1].id
        return events

    def _rest(self) -> None:
        """Short members end by the hundred a second: whoever looked at each at once would take their cores. A few looks are at
        once, so that a run of few members, or of long ones, is seen to end when it does."""
        now = time.monotonic()
        self._looks = min(AT_ONCE, self._looks + (now - self._looked) / PAUSE)
        self._looked = now
        if self._looks < 1:
            time.sleep((1 - self._looks) * PAUSE)
        self._looks -= 1

    def _note_loneliness(self, progress: Progress) -> None:
        if self._control.store.workers():
            return
        if self._control.has_worker:
            progress.note(f"{self.run_id} waits: its worker is starting.")
        else:
            progress.note(f"{self.run_id} waits: no worker is registered. Start one with `taskensemble worker`.")

    def _note_failures(self, progress: Progress, status: RunStatus, noted: set[int]) -> None:
        """Name those that failed before this wait began to listen."""
        if not status.failed:
            return
        failed = [index for index, state in enumerate(self._control.store.states(self.run_id)) if state is State.FAILED]
        for attempt in self._control.store.attempts(
            self.run_id, [index for index in failed if index not in noted][:NOTES]
        ):
            self._note_failure(progress, attempt.index, attempt.reason, noted)

    def _note_failure(self, progress: Progress, index: int, reason: str, noted: set[int]) -> None:
        if index in noted or len(noted) >= NOTES:
            return
        noted.add(index)
        member = self._control.store.members(self.run_id, index, index + 1)[0]
        log = self.member_path(member) / f"{member.name}.err"
        progress.note(f"{member.name} failed ({cause(reason)}); its log is {log}")
        if len(noted) == NOTES:
            progress.note(f"Further failures are only counted: `taskensemble status {self.run_id}` lists them.")

    def _raise_failure(self, status: RunStatus) -> None:
        if status.state is not State.FAILED or not status.reason or status.started is not None:
            return
        assets = any(template.assets for template in self.record.templates)
        error = AssetError if assets else RunFailedError
        raise error(f"The run {self.run_id} failed before any member started: {status.reason}")


class EmptyRun(RunHandle):
    """What a start of databases alone gives: nothing to wait for."""

    def __init__(self, run: RunRecord) -> None:
        self.record = run
        now = time.time()
        self._final = RunStatus(
            run_id=run.run_id,
            experiment=run.experiment,
            state=State.COMPLETED,
            size=0,
            queued=0,
            running=0,
            completed=0,
            failed=0,
            cancelled=0,
            created=now,
            started=now,
            ended=now,
        )

    def members(self, entity: int | None = None) -> list[tuple[MemberRecord, AttemptRecord]]:  # noqa: ARG002  as its base
        return []

    def failed_members(self) -> list[tuple[MemberRecord, AttemptRecord]]:
        return []

    def member_states(self) -> list[State]:
        return []

    def member_names(self) -> list[str]:
        return []

    def states(self) -> list[tuple[EntityRecord, State]]:
        return []

    def wait_for_assets(self) -> None:
        return


def submit(
    control: ControlPlane,
    run: RunRecord,
    members: Iterable[MemberRecord],
    assets: Mapping[str, bytes],
    secrets: Mapping[str, str],
) -> RunHandle:
    """Write a run and publish its setup."""
    from taskensemble.engine import messages

    control.store.write_run(run, members, assets, secrets)
    messages.publish_setup(control.broker_url, run)
    return RunHandle(control, run, collects=True)


def new_run_id(experiment: str) -> str:
    """A run id that a person can read and type the beginning of: the experiment's name and eight random characters."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", experiment).lstrip("_.-")[:64] or "run"
    return f"{name}-{secrets.token_hex(4)}"


def cause(reason: str) -> str:
    """Why a member ended as it did, without where its log is: that has a column or a sentence of its own."""
    return reason.partition("; see ")[0]


def find_member(handle: RunHandle, name: str) -> tuple[MemberRecord, AttemptRecord]:
    """The member of that name, or at that index.

    Raises:
        RunNotFoundError: the run has no such member
    """
    return find_members(handle, [name])[0]


def find_members(handle: RunHandle, names: Sequence[str]) -> list[tuple[MemberRecord, AttemptRecord]]:
    """The members of these names, or at these indexes.

    Raises:
        RunNotFoundError: the run has no such member
    """
    members = handle.members()
    known_as: dict[str, tuple[MemberRecord, AttemptRecord]] = {}
    for member, attempt in members:
        known_as.setdefault(member.name, (member, attempt))
        known_as.setdefault(str(member.index), (member, attempt))
    name = next((name for name in names if name not in known_as), None)
    if name is None:
        return [known_as[name] for name in names]
    known = ", ".join(member.name for member, _ in members[:5])
    raise RunNotFoundError(
        f"The run {handle.run_id} has no member {name!r}; it has {known}{', …' if len(members) > 5 else ''}."
    )


def _check_timeout(timeout: float | None) -> None:
    if timeout is None:
        return
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise InputTypeError(
            f"timeout={timeout!r} is a {type(timeout).__name__}; give seconds, or None to wait for the end."
        )
    if not timeout >= 0:
        raise InputError(f"timeout={timeout!r}; give 0 seconds or more, or None to wait for the end.")
