"""A worker: the Celery app, its settings, and the program `python -P -m workers.app`.

The addresses come from TASKENSEMBLE_BROKER_URL and TASKENSEMBLE_STORE_URL (the broker's, when that is a Redis), never from argv.
SIGTERM lets running members end within `--drain` seconds and gives the others back; a second one gives them back at once.
"""

from __future__ import annotations

import gc
import logging
import math
import os
import secrets
import signal
import socket
import sys
import time
import uuid
import warnings
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from celery import Celery
from celery.exceptions import SecurityWarning
from kombu import Exchange, Queue

from taskensemble.engine import host, messages, signing, urls
from taskensemble.engine.allocation import job_of, of_this_process
from taskensemble.engine.records import WorkerRecord
from taskensemble.engine.store import Store
from taskensemble.errors import InputError
from workers import allocation, ends, limits, logs, process, reaper, transport
from workers.arguments import arguments
from workers.completion import completion
from workers.lifetime import Lifetime
from workers.members import Members
from workers.setup import setup
from workers.slots import Node, Stay

logger = logging.getLogger("taskensemble.worker")


def make_app(broker_url: str, members: Members | None, drain_limit: float, lifetime: Lifetime | None = None) -> Celery:
    """The Celery app of a worker: three tasks, JSON only, no results."""
    app = Celery("taskensemble", broker=urls.celery_url(broker_url), set_as_current=True)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        task_acks_late=True,
        task_queues=[Queue(messages.SERVICE_QUEUE, Exchange(""), routing_key=messages.SERVICE_QUEUE, durable=True)],
        task_default_queue=messages.SERVICE_QUEUE,
        task_default_exchange="",
        task_default_routing_key=messages.SERVICE_QUEUE,
        worker_consumer="workers.consumer:Consumer",
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_enable_prefetch_count_reduction=False,
        worker_disable_rate_limits=True,
        worker_prefetch_multiplier=4,
        broker_use_ssl=urls.amqp_tls(broker_url),
        broker_connection_retry_on_startup=True,
        broker_connection_timeout=4.0,
        # An error reply (its disk or memory is full, it is a replica now) passes as an outage does.
        broker_channel_error_retry=True,
        broker_transport_options={"socket_connect_timeout": 4.0, "socket_keepalive": True}
        if urls.is_redis(broker_url)
        else {},
        event_queue_expires=60,
        result_backend="taskensemble.engine.backend:RecordBackend",
    )
    app.members = members
    app.drain_limit = drain_limit
    app.lifetime = lifetime or Lifetime()
    return app


def register_tasks(
    app: Celery, store: Store, publisher: messages.Publisher, lease: float, allowed: limits.Limits | None = None
) -> None:
    """The three tasks. A member never comes here: the pool gives its request to `Members`."""

    @app.task(name=messages.SETUP)  # type: ignore[untyped-decorator]
    def setup_task(run_id: str) -> str:
        return setup(store, publisher, run_id, uuid.uuid4().hex, lease, allowed)

    @app.task(name=messages.COMPLETION)  # type: ignore[untyped-decorator]
    def completion_task(run_id: str, entity: int) -> str:
        return completion(store, publisher, run_id, entity)

    @app.task(name=messages.MEMBER)  # type: ignore[untyped-decorator]
    def member_task(run_id: str, index: int, entity: int) -> None:
        raise NotImplementedError(f"member {index} of {run_id}: members run in the pool of `taskensemble worker` only")


def make_node(options: Namespace) -> tuple[Node | allocation.AllocationSlots, bool]:
    """What this worker gives to members, and whether its CPU numbers are real and its own."""
    stay = stay_of(options.time_limit)
    whole = allocation.of_this_worker(tuple(options.tags), stay)
    if whole is not None:
        allocation.forget_wishes(os.environ)
        return whole, False
    allowed, usable = sorted(os.sched_getaffinity(0)), host.usable_cpus()
    slots = options.slots or usable
    # A quota is time on any CPU: who pinned its members then would do so to the same CPUs as others with a quota here.
    pinned = process.lock_cpus(allowed, slots) if usable == len(allowed) else ()
    gpus = options.gpus if options.gpus is not None else os.environ.get("CUDA_VISIBLE_DEVICES", "")
    listed = tuple(gpu for gpu in gpus.split(",") if gpu.strip() and gpu.strip() != "-1")
    memory = host.usable_memory_mb() if options.memory is None else options.memory
    named = options.gpus is not None and bool(listed)
    cpus = tuple(pinned or range(slots))
    return Node(cpus, listed, memory, tuple(options.tags), gpus_are_named=named, stay=stay), bool(pinned)


def stay_of(time_limit: float) -> Stay:
    """In which job this worker is, and when it ends: with the job's time, or with its own limit (0: none) if that is earlier."""
    job = job_of(os.environ)
    whole = of_this_process() if job or os.environ.get(allocation.VARIABLE) else None
    lifetime = min(whole.time_left if whole is not None else math.inf, time_limit or math.inf)
    if lifetime == math.inf:
        return Stay(whole.job_id if whole is not None else "")
    return Stay(whole.job_id if whole is not None else "", lifetime, time.monotonic() + lifetime)


def addresses(environ: Mapping[str, str]) -> tuple[str, str]:
    """Where messages and records are.

    Raises:
        InputError: a variable that is not set, or cannot be read as an address.
    """
    broker_url = environ.get("TASKENSEMBLE_BROKER_URL", "")
    store_url = environ.get("TASKENSEMBLE_STORE_URL") or broker_url
    if not broker_url:
        raise InputError(
            "TASKENSEMBLE_BROKER_URL is not set: give the broker's URL, e.g. redis://:password@host:6379/0"
        )
    urls.check_url(broker_url, "TASKENSEMBLE_BROKER_URL")
    urls.check_url(store_url, "TASKENSEMBLE_STORE_URL")
    if not urls.is_redis(store_url):
        raise InputError("TASKENSEMBLE_STORE_URL is not set: records need a Redis or Valkey server beside this broker")
    return broker_url, store_url


def registered(name: str, node: Node | allocation.AllocationSlots, options: Namespace) -> WorkerRecord:
    """This process as it registers itself."""
    return WorkerRecord(
        name=name,
        host=socket.gethostname(),
        pid=os.getpid(),
        boot=reaper.boot_id(),
        pid_start=host.start_time(os.getpid()),
        slots=len(node.cpus),
        free=len(node.cpus),
        gpus=node.gpus,
        memory_mb=node.memory_mb,
        tags=node.tags,
        queue=options.queue,
        job=node.stay.job,
        lifetime=node.stay.lifetime,
        left=node.stay.left,
        lease=options.lease,
    )


def make_worker(app: Celery, worker: WorkerRecord, options: Namespace) -> Any:
    """Celery's own worker, with the pool of members."""
    from workers.pool import MemberPool

    return app.Worker(
        hostname=f"{worker.name}@{worker.host}",
        pool_cls=MemberPool,
        concurrency=worker.slots,
        loglevel=options.log_level,
        task_events=options.events == "on",
        without_gossip=True,
        without_mingle=True,
        heartbeat_interval=5,
        quiet=True,
        optimization="fair",
    )


def main(argv: list[str] | None = None) -> int:
    """Runs a worker until it is told to end."""
    options = arguments(sys.argv[1:] if argv is None else argv)
    name = options.name or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"
    logs.configure(options.log_level, options.log_format, name)
    try:
        broker_url, store_url = addresses(os.environ)
        signing.from_environment()
        allowed = limits.limits_of(options.allow_executables, options.allow_roots, os.environ)
        limits.check_own_folders(os.environ)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    # Celery's warning is about pickles, which no worker of ours reads.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    # Schedulers warn a job's processes with it, which would end this one. Members inherit no handler, as they would SIG_IGN.
    signal.signal(signal.SIGUSR2, lambda *_: None)
    process.become_subreaper()
    ends.drop_old()
    transport.install()
    node, pinned = make_node(options)
    worker = registered(name, node, options)
    members = Members(worker, node, broker_url=broker_url, store_url=store_url, pinned=pinned, limits=allowed)
    app = make_app(broker_url, members, options.drain, Lifetime(options.idle_timeout, options.time_limit))
    store, publisher = Store(store_url), messages.Publisher(broker_url)
    register_tasks(app, store, publisher, options.lease, allowed)
    duty = reaper.Reaper(worker, broker_url, store_url, options.lease)
    duty.start()
    controller = make_worker(app, worker, options)
    # What is loaded by now stays: the collector need not look at it again and again, nor after each few members.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    controller.start()
    duty.stop()
    duty.join(5)
    store.close()
    publisher.close()
    return int(controller.exitcode or 0)


if __name__ == "__main__":
    sys.exit(main())
