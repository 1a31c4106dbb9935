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
| taskensemble_member_dispatch_seconds | histogram | experiment: from the release, or the end of a member before it, to a start |
| taskensemble_database_up, _memory_bytes, _clients | gauge | experiment, database |
| taskensemble_inference_workers, _workers_busy, _jobs_waiting | gauge | the same |
| taskensemble_inference_calls_total, _errors_, _samples_, _seconds_, _batches_ | counter | and shard, model, backend, device |
| taskensemble_inference_waiting | gauge | the same: requests in the model's queue |
| taskensemble_inference_latency_seconds | histogram | the same: a request's arrival at the database to its outputs |
| taskensemble_inference_command_seconds | histogram | experiment, database, shard, command: how long clients waited for it |

A batch's mean size in samples is the rate of taskensemble_inference_samples_total by that of _batches_total.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from taskensemble.dashboard import snapshot
from taskensemble.engine.messages import Publisher
from taskensemble.engine.records import DatabaseAddressRecord, EventRecord, RunStatus, State
from taskensemble.engine.store import Store
from taskensemble.errors import RunNotFoundError

BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5, 10, 60, 300, 600, 3600, 4 * 3600, 24 * 3600)
"""Seconds; from a warm start to a day's simulation."""

LATENCIES = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds; of an inference command."""

EVENTS_A_SCRAPE = 100_000
"""Of one run; the rest follow with the next scrape."""


@dataclass
class _Progress:
    """How far a run's events have been counted."""

    last: str = "0"
    released: dict[int, float] = field(default_factory=dict)
    started: dict[int, float] = field(default_factory=dict)
    freed: deque[float] = field(default_factory=deque)
    """When members ended whose slots no member has taken since."""


class ControlPlaneCollector(Collector):
    """Reads a store at each scrape.

    Arguments:
        store: the record store
        broker_url: where queue lengths are asked for
        registry: the histograms are registered there, beside this collector
        databases: those that no experiment has started
    """

    def __init__(
        self,
        store: Store,
        broker_url: str,
        registry: CollectorRegistry,
        databases: Sequence[DatabaseAddressRecord] = (),
    ) -> None:
        self._store = store
        self._others = databases
        self._broker = Publisher(broker_url)
        self._runs: dict[str, _Progress] = {}
        self._wait = Histogram(
            "taskensemble_member_wait_seconds",
            "From an entity's release to a member's start",
            ["experiment"],
            buckets=BUCKETS,
            registry=registry,
        )
        self._dispatch = Histogram(
            "taskensemble_member_dispatch_seconds",
            "From an entity's release, or from the end of a member before it if that is later, to a member's start",
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
                released = progress.released[event.entity]
                freed = progress.freed.popleft() if progress.freed else 0.0
                self._wait.labels(experiment).observe(max(0.0, event.time - released))
                self._dispatch.labels(experiment).observe(max(0.0, event.time - max(released, freed)))
        elif event.kind in ("end", "retry") and event.index in progress.started:
            progress.freed.append(event.time)
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
            name: GaugeMetricFamily(f"taskensemble_{metric}", text, labels=_DATABASE)
            for name, metric, text in (
                ("up", "database_up", "1 when every shard answers"),
                ("memory", "database_memory_bytes", "Memory in use"),
                ("clients", "database_clients", "Connected clients"),
                ("workers", "inference_workers", "Inference workers that are connected"),
                ("busy", "inference_workers_busy", "Inference workers with a batch"),
                ("waiting", "inference_jobs_waiting", "Requests that no inference worker has taken"),
            )
        }
        latencies = HistogramMetricFamily(
            "taskensemble_inference_command_seconds",
            "How long clients waited for a command; a bucket holds at least what is told, at most what the next one does",
            labels=[*_DATABASE, "shard", "command"],
        )
        counters = {
            name: CounterMetricFamily(f"taskensemble_inference_{name}", text, labels=[*_DATABASE, *_MODEL])
            for name, text in (
                ("calls", "Executions of a model or script"),
                ("errors", "Executions that failed"),
                ("samples", "Samples that models were given"),
                ("seconds", "Time spent in the backend"),
                ("batches", "Runs of the backend, each of one request or more"),
            )
        }
        waiting = GaugeMetricFamily(
            "taskensemble_inference_waiting", "Requests in a model's queue", labels=[*_DATABASE, *_MODEL]
        )
        latency = HistogramMetricFamily(
            "taskensemble_inference_latency_seconds",
            "From a request's arrival at the database to its outputs",
            labels=[*_DATABASE, *_MODEL],
        )
        for database in snapshot.databases(self._store, self._others, commands=True):
            labels = [database["experiment"], database["identifier"]]
            for name, family in gauges.items():
                family.add_metric(labels, float(database[name]))
            for asset in database["assets"]:
                names = [*labels, asset["shard"], asset["name"], asset["backend"], asset["device"]]
                for name, counter in counters.items():
                    counter.add_metric(names, max(0, asset[name]))
                waiting.add_metric(names, asset["waiting"])
                latency.add_metric(names, *_histogram(asset["latencies"]))
            for command in database["commands"]:
                names = [*labels, command["shard"], command["command"]]
                latencies.add_metric(names, _buckets(command), sum_value=command["seconds"])
        yield from gauges.values()
        yield from counters.values()
        yield from (latencies, waiting, latency)


def _histogram(latencies: Mapping[float, int]) -> tuple[list[tuple[str, float]], float]:
    """A model's latencies over `LATENCIES`, and their sum in seconds: each is known to an eighth."""
    buckets = [
        (str(bound), float(sum(count for end, count in latencies.items() if end <= bound))) for bound in LATENCIES
    ]
    return [*buckets, ("+Inf", float(sum(latencies.values())))], sum(end * count for end, count in latencies.items())


def _buckets(command: Mapping[str, Any]) -> list[tuple[str, float]]:
    """A server's histogram over `LATENCIES`: its own bounds are powers of two, and only those that hold something."""
    known: list[tuple[float, int]] = command["buckets"]
    bounds = [(str(bound), max((count for end, count in known if end <= bound), default=0)) for bound in LATENCIES]
    return [(bound, float(count)) for bound, count in [*bounds, ("+Inf", command["calls"])]]


_DATABASE = ["experiment", "database"]
_MODEL = ["shard", "model", "backend", "device"]
