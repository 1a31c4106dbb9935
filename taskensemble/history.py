"""What an experiment started, run after run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from taskensemble.engine.records import State
from taskensemble.errors import EntityRunningError, RunNotFoundError
from taskensemble.handle import RunHandle


@dataclass(frozen=True)
class Place:
    """Where one start of something stands in its run."""

    handle: RunHandle
    first: int
    size: int
    entity: int | None
    """Index of the entity; None: one member of an ensemble."""

    def states(self) -> list[State]:
        """Of its members."""
        return self.handle.member_states()[self.first : self.first + self.size]

    def state(self) -> State:
        """Its own."""
        if self.entity is None:
            return self.states()[0]
        return next(state for record, state in self.handle.states() if record.index == self.entity)

    def ended(self) -> bool:
        """Whether it has ended."""
        return self.handle.known_final is not None or self.state().final

    def results(self) -> list[dict[str, Any]]:
        """Its rows."""
        if self.entity is not None:
            return self.handle.results(self.entity)
        return [row for row in self.handle.results() if row["index"] == self.first]


class History:
    """The starts of an experiment's entities, in order."""

    def __init__(self) -> None:
        self._starts: dict[str, list[Place]] = {}
        self._unread: list[Place] = []
        """Ensembles' starts whose members' names nobody asked for yet."""
        self._members: dict[str, Place] = {}
        """Of the others: a member's name -> its latest start in an ensemble."""

    def add(self, handle: RunHandle) -> None:
        """Remember the entities of a run, which is the latest of each; a run that is known already stays where it is."""
        for entity in handle.record.entities:
            places = self._starts.setdefault(entity.name, [])
            if all(place.handle.run_id != handle.run_id for place in places):
                places.append(Place(handle, entity.first, entity.size, entity.index))
                if entity.kind == "Ensemble":
                    self._unread.append(places[-1])

    def names(self) -> list[str]:
        """Of everything that was started."""
        return list(self._starts)

    def starts(self, name: str) -> list[Place]:
        """All starts of an entity, the oldest first."""
        return self._starts.get(name, [])

    def latest(self, name: str) -> Place:
        """The latest start of an entity, or of a member of an ensemble by the member's name.

        Raises:
            RunNotFoundError: it was never started
        """
        if name in self._starts:
            return self._starts[name][-1]
        for place in reversed([place for places in self._starts.values() for place in places]):
            for member, _ in place.handle.members(place.entity):
                if member.name == name:
                    return Place(place.handle, member.index, 1, None)
        raise RunNotFoundError(f"{name!r} was never started by this experiment: pass it to start() first.")

    def _latest_with_parents(self, name: str) -> list[Place]:
        """The latest start of a name, after those that it goes on from: what was resumed, earlier rounds of an adaptive ensemble.

        Raises:
            RunNotFoundError: it was never started
        """
        known = {place.handle.run_id: place for place in self._starts.get(name, ())}
        found = [self.latest(name)]
        while (parent := found[0].handle.record.parent) is not None and parent in known:
            found.insert(0, known[parent])
        return found

    def states(self, name: str, size: int) -> list[State]:
        """The latest states of the members of a name's latest start; of `size` members that were never started without one."""
        try:
            places = self._latest_with_parents(name)
        except RunNotFoundError:
            return [State.NEVER_STARTED] * size
        if len(places) == 1:
            return places[0].states()
        states: dict[str, State] = {}
        for place in places:
            names = place.handle.member_names()[place.first : place.first + place.size]
            states |= zip(names, place.states(), strict=True)
        return list(states.values())

    def results(self, name: str) -> list[dict[str, Any]]:
        """The rows of a name's latest start, with those of members that a resumed run did not run again.

        Raises:
            RunNotFoundError: it was never started
        """
        return list({row["name"]: row for place in self._latest_with_parents(name) for row in place.results()}.values())

    def running(self, names: Iterable[str]) -> tuple[str, Place] | None:
        """The first of these entities, and members of ensembles, of which a start has not ended, and that start."""
        self._read_members()
        for name in names:
            places = [*self._starts.get(name, ()), *([self._members[name]] if name in self._members else [])]
            for place in places:
                if not (place.handle.finished() or place.ended()):
                    return name, place
        return None

    def refuse_running(self, names: Iterable[str]) -> None:
        """See that none of these runs.

        Raises:
            EntityRunningError: one does; the message has the run
        """
        found = self.running(names)
        if found is None:
            return
        name, place = found
        record = place.handle.record
        ensemble = next(each.name for each in record.entities if each.first <= place.first < each.first + each.size)
        where = record.run_id if place.entity is not None else f"{record.run_id} of {ensemble!r}"
        raise EntityRunningError(
            f"{name!r} has not ended in the run {where}: stop it there (exp.stop), or wait for its end (exp.poll), before it is "
            "started again."
        )

    def _read_members(self) -> None:
        """Learn the names of ensembles' members, as far as those may still run."""
        for place in self._unread:
            if place.handle.known_final is None:
                names = place.handle.member_names()[place.first : place.first + place.size]
                for index, name in enumerate(names, place.first):
                    self._members[name] = Place(place.handle, index, 1, None)
        self._unread.clear()

    def completed(self, name: str) -> bool:
        """Whether an entity's latest start has completed."""
        return name in self._starts and self._starts[name][-1].state() is State.COMPLETED

    def active(self) -> list[RunHandle]:
        """Runs that have not ended, each once, the oldest first."""
        handles = {place.handle.run_id: place.handle for places in self._starts.values() for place in places}
        return [handle for handle in handles.values() if not handle.finished()]
