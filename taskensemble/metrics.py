"""Prometheus metrics of a control plane and of the databases beside it.

`taskensemble metrics` serves them; every scrape reads the record store anew, so the exporter keeps nothing that could be wrong
after a restart but the place in each run's event stream, from which it counts ends and durations.

| metric | type | labels |
|---|---|---|
| taskensemble_members | gauge | experiment, run, state |
| taskensemble_queue_length | gauge | queue, run |
| taskensemble_worker_slots, _slots_free, _members, _age_seconds | gauge | worker, host |
| taskensemble_member_wait_seconds | histogram | experiment: an entity's release to a member's start |
| taskensemble_member_run_seconds | histogram | experiment, state: a member's start to its end |
| taskensemble_database_up, _memory_bytes, _clients | gauge | experiment, database |
| taskensemble_inference_calls_total, _errors_, _samples_, _seconds_ | counter | the same, and shard, model, backend, device |
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from taskensemble.dashboard import snapshot
from taskensemble.engine.messages import Publisher
from taskensemble.engine.records import EventRecord, RunStatus, State
from taskensemble.engine.store import Store
from taskensemble.errors import RunNotFoundError

BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5, 10, 60, 300, 600, 3600, 4 * 3600, 24 * 3600)
"""Seconds; from a warm start to a day's simulation."""

EVENTS_A_SCRAPE = 100_000
"""Of one run; the rest follow with the next scrape."""


@dataclass
class _Progress:
    """How far a run's events have been counted."""

    last: str = "0"
    released: dict[int, float] = field(default_factory=dict)
    started: dict[int, float] = field(default_factory=dict)


class ControlPlaneCollector(Collector):
    """Reads a store at each scrape.

    Arguments:
        store: the record store
        broker_url: where queue lengths are asked for
        registry: the histograms are registered there, beside this collector
    """

    def __init__(self, store: Store, broker_url: str, registry: CollectorRegistry) -> None:
        self._store = store
        self._broker = Publisher(broker_url)
        self._runs: dict[str, _Progress] = {}
        self._wait = Histogram(
            "taskensemble_member_wait_seconds",
            "From an entity's release to a member's start",
            ["experiment"],
            buckets=BUCKETS,
            registry=registry,
        )
        self._run = Histogram(
            "taskensemble_member_run_seconds",
            "From a member's start to its end",
            ["experiment", "state"],
            buckets=BUCKETS,
            registry=registry,
        )
        registry.register(self)

    def describe(self) -> Iterable[Metric]:
        """Nothing ahead: asking the store at registration would make a start depend on it."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """The metrics of this moment."""
        statuses = self._statuses()
        for status in statuses:
            self._count(status)
        yield self._members(statuses)
        yield from self._workers()
        yield self._queues()
        yield from self._databases()

    def _statuses(self) -> list[RunStatus]:
        found = []
        for run_id in self._store.runs():
            with suppress(RunNotFoundError):  # it expired between the two questions
                found.append(self._store.status(run_id))
        return found

    def _count(self, status: RunStatus) -> None:
        progress = self._runs.setdefault(status.run_id, _Progress())
        for event in self._store.events(status.run_id, progress.last, EVENTS_A_SCRAPE):
            progress.last = event.id
            self._observe(status.experiment, progress, event)

    def _observe(self, experiment: str, progress: _Progress, event: EventRecord) -> None:
        if event.kind == "entity" and event.state is State.QUEUED and event.entity is not None:
            progress.released[event.entity] = event.time
        if event.index is None or event.entity is None:
            return
        if event.kind == "start":
            progress.started[event.index] = event.time
            if event.entity in progress.released:
                self._wait.labels(experiment).observe(max(0.0, event.time - progress.released[event.entity]))
        elif event.kind in ("end", "retry") and event.index in progress.started:
            state = str(event.state) if event.state else "Retried"
            self._run.labels(experiment, state).observe(max(0.0, event.time - progress.started.pop(event.index)))

    @staticmethod
    def _members(statuses: Iterable[RunStatus]) -> Metric:
        family = GaugeMetricFamily("taskensemble_members", "Members by state", labels=["experiment", "run", "state"])
        for status in statuses:
            for state in ("queued", "running", "completed", "failed", "cancelled"):
                family.add_metric([status.experiment, status.run_id, state], getattr(status, state))
        return family

    def _workers(self) -> Iterator[Metric]:
        workers = self._store.workers()
        for name, text, attribute in (
            ("slots", "CPUs that members can hold", "slots"),
            ("slots_free", "CPUs that no member holds", "free"),
            ("members", "Members that run", "running"),
            ("age_seconds", "Time since the last beat", "age"),
        ):
            family = GaugeMetricFamily(f"taskensemble_worker_{name}", text, labels=["worker", "host"])
            for worker in workers:
                family.add_metric([worker.name, worker.host], getattr(worker, attribute))
            yield family

    def _queues(self) -> Metric:
        family = GaugeMetricFamily("taskensemble_queue_length", "Messages that wait", labels=["queue", "run"])
        for queue in self._store.queues():
            family.add_metric([queue.name, queue.run], self._broker.length(queue.name))
        return family

    def _databases(self) -> Iterator[Metric]:
        gauges = {
            "up": GaugeMetricFamily("taskensemble_database_up", "1 when every shard answers", labels=_DATABASE),
            "memory": GaugeMetricFamily("taskensemble_database_memory_bytes", "Memory in use", labels=_DATABASE),
            "clients": GaugeMetricFamily("taskensemble_database_clients", "Connected clients", labels=_DATABASE),
        }
        counters = {
            name: CounterMetricFamily(f"taskensemble_inference_{name}", text, labels=[*_DATABASE, *_MODEL])
            for name, text in (
                ("calls", "Executions of a model or script"),
                ("errors", "Executions that failed"),
                ("samples", "Samples that models were given"),
                ("seconds", "Time spent in the backend"),
            )
        }
        for database in snapshot.databases(self._store):
            labels = [database["experiment"], database["identifier"]]
            for name, family in gauges.items():
                family.add_metric(labels, float(database[name]))
            for asset in database["assets"]:
                names = [*labels, asset["shard"], asset["name"], asset["backend"], asset["device"]]
                for name, counter in counters.items():
                    counter.add_metric(names, max(0, asset[name]))
        yield from gauges.values()
        yield from counters.values()


_DATABASE = ["experiment", "database"]
_MODEL = ["shard", "model", "backend", "device"]
