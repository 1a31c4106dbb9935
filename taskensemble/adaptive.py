"""Adaptive ensembles: a generator in the driver sees a round's members with their results and yields the next round.

Each round is a run of its own (one chord), whose record names the round before as its parent. Without its driver an adaptive
ensemble pauses after its round; `Experiment.reconnect(run_id, generator=…)` goes on: the generator is run from its beginning and
is given the recorded rounds again before it is asked for a new one, so it should be deterministic (a seed) or go by the rows'
`params`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from taskensemble.entity import Ensemble, Model
from taskensemble.entity.parameters import model_values
from taskensemble.errors import InputError, InputTypeError

if TYPE_CHECKING:
    from taskensemble.engine.records import RunStatus
    from taskensemble.experiment import Experiment
    from taskensemble.handle import RunHandle

Rows = list[dict[str, Any]]
Round = Iterable[Mapping[str, Any]]
"""The parameters of each member of a round."""
RoundGenerator = Generator[Round, Rows, Any]
"""Yields rounds; is sent the rows (see `taskensemble.results.rows`) of each."""


class AdaptiveHandle:
    """An adaptive ensemble that was begun: `wait` leads it from round to round."""

    def __init__(self, experiment: Experiment, model: Model, generator: RoundGenerator) -> None:
        if not isinstance(generator, Generator):
            raise InputTypeError(
                f"generator={generator!r} is a {type(generator).__name__}; call the generator function and give what it returns."
            )
        self._experiment = experiment
        self._model = model
        self._generator = generator
        self._members = 0
        self.rounds: list[RunHandle] = []
        """The runs, one a round."""

    @property
    def run_id(self) -> str:
        """Of the latest round, for `reconnect`.

        Raises:
            InputError: the generator has yielded no round
        """
        if not self.rounds:
            raise InputError(f"The generator of {self._model.name!r} yielded no round.")
        return self.rounds[-1].run_id

    def begin(self) -> None:
        """Start the first round."""
        try:
            self._start(next(self._generator))
        except StopIteration:
            return

    def replay(self, rounds: Sequence[RunHandle]) -> None:
        """Take up recorded rounds: the generator is given the rows of all but the last, which `wait` goes on from.

        Raises:
            InputError: the rounds are of another model, or the generator ends before them
        """
        name = rounds[0].record.entities[0].name
        if name != self._model.name:
            raise InputError(f"model: {self._model.name!r} is not {name!r}, of which the run {rounds[-1].run_id} is.")
        for number, handle in enumerate(rounds):
            try:
                # A generator is begun by sending nothing.
                self._generator.send(self.rounds[-1].results() if self.rounds else None)  # type: ignore[arg-type]
            except StopIteration:
                raise InputError(
                    f"generator: it ends after {number} of the {len(rounds)} rounds up to the run {rounds[-1].run_id}; give the "
                    "one that they were begun with."
                ) from None
            self.rounds.append(handle)
            self._members += handle.record.size

    def wait(self, *, quiet: bool = True) -> RunStatus | None:
        """Lead the ensemble to its end: wait for each round, give its rows to the generator, start what it yields.

        Returns:
            The status of the last round; None when there was none.

        Raises:
            AssetError, RunFailedError: as `RunHandle.wait`
        """
        from taskensemble.progress import progress

        status = None
        while self.rounds:
            status = self.rounds[-1].wait(progress=progress(quiet))
            try:
                self._start(self._generator.send(self.rounds[-1].results()))
            except StopIteration:
                break
        return status

    def stop(self) -> None:
        """Stop the round that runs; the generator is closed, so no other follows."""
        self._generator.close()
        if self.rounds:
            self.rounds[-1].stop()

    def results(self) -> Rows:
        """The rows of all rounds, in order."""
        return [row for handle in self.rounds for row in handle.results()]

    def _start(self, parameters: Round) -> None:
        ensemble = self._ensemble(parameters)
        parent = self.rounds[-1].run_id if self.rounds else None
        self.rounds.append(self._experiment.start_round(ensemble, parent))
        self._members += len(ensemble)

    def _ensemble(self, parameters: Round) -> Ensemble:
        """The round as an ensemble: copies of the model with its parameters and the round's over them."""
        if not isinstance(parameters, Iterable) or isinstance(parameters, Mapping | str):
            raise InputTypeError(
                f"The generator of {self._model.name!r} yielded {parameters!r}; yield a list of dicts of parameters."
            )
        sets = list(parameters)
        if not sets:
            raise InputError(
                f"The generator of {self._model.name!r} yielded an empty round: return to end, or yield members."
            )
        model = self._model
        ensemble = Ensemble(model.name, None, model.path, run_settings=model.run_settings, replicas=len(sets))
        ensemble.prototype.policy = model.policy
        ensemble.prototype.resources = model.resources
        ensemble.batch_settings = model.batch_settings
        members = []
        for number, params in enumerate(sets, self._members):
            if not isinstance(params, Mapping):
                raise InputTypeError(
                    f"The generator of {model.name!r} yielded {params!r}; yield a list of dicts of parameters."
                )
            values, _ = model_values(params)
            member = model.copy_as(f"{model.name}_{number}", {**model.params, **values})
            member.set_path(ensemble.member_path(number, member.name))
            members.append(member)
        ensemble.entities = members
        return ensemble
