"""`python -m workers.inference [worker|supervisor] …`: the processes beside an AI database."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys

from .backend import KINDS, BackendError, Threads, create_backend
from .connection import Credentials
from .loop import Options, serve
from .process import end_with_parent
from .supervisor import PASSWORD_VARIABLE, USER_VARIABLE, Supervisor, count_gpus, default_name, installed_pairs

_POLL = 200


def main(arguments: list[str] | None = None) -> int:
    """Run a worker or a supervisor; returns the exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    if given and given[0].startswith("--") and given[0] != "--help":
        # Started by hand, it is a worker that is wanted: supervisors come with their databases.
        given = ["worker", *given]
    options = _parser().parse_args(given)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    if options.role == "supervisor":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, signal.SIG_IGN if options.parent else signal.default_int_handler)
    if options.parent:
        end_with_parent(options.parent)
    try:
        return _supervisor(options) if options.role == "supervisor" else _worker(options)
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workers.inference", description=__doc__)
    roles = parser.add_subparsers(dest="role", required=True)
    worker = roles.add_parser(
        "worker",
        prog="taskensemble inference-worker",
        help="run the models of one backend on one device",
        epilog=f"A database with a password: {USER_VARIABLE} and {PASSWORD_VARIABLE} in the environment.",
    )
    supervisor = roles.add_parser("supervisor", help="start workers when the database asks for them")
    for role in (worker, supervisor):
        role.add_argument(
            "--db", required=True, action="append", help="host:port or unix://path; again for further shards"
        )
        # Hidden is what programs say that start it: the pid it ends with, and the descriptor on which to say that it works.
        role.add_argument("--parent", type=int, default=0, help=argparse.SUPPRESS)
        role.add_argument("--report", type=int, default=-1, help=argparse.SUPPRESS)
        role.add_argument(
            "--poll",
            type=int,
            default=-1,
            help="microseconds to poll before sleeping; default: 200 with 2 cores or more",
        )
        role.add_argument(
            "--intra-op-threads", type=int, default=0, help="threads of one operator; 0: the backend's choice"
        )
        role.add_argument(
            "--inter-op-threads", type=int, default=0, help="operators at a time; 0: the backend's choice"
        )
    worker.add_argument("--backend", required=True, type=str.upper, choices=sorted(KINDS), help="what it computes with")
    worker.add_argument("--device", default="CPU", type=str.upper, help="CPU or GPU:n")
    worker.add_argument("--supervisor", default="", help=argparse.SUPPRESS)
    supervisor.add_argument("--name", default="", help="unique among the supervisors of a server")
    supervisor.add_argument("--workers-per-device", type=int, default=1)
    supervisor.add_argument("--owner", type=int, default=0, help="pid without which no server is started again")
    supervisor.add_argument(
        "--patience",
        type=float,
        default=0.0,
        help="seconds to wait for a server that has ended and may be started again",
    )
    supervisor.add_argument("--gpus", type=int, default=-1, help="GPUs to offer; default: those of this node")
    return parser


def _worker(options: argparse.Namespace) -> int:
    report = os.fdopen(options.report, "w") if options.report >= 0 else None

    def tell(text: str) -> None:
        if report is not None and not report.closed:
            with report:
                print(text, file=report)

    try:
        backend = create_backend(
            options.backend, options.device, Threads(options.intra_op_threads, options.inter_op_threads)
        )
    except BackendError as error:
        logging.error("%s", error)
        tell(str(error))
        return 1
    poll = options.poll if options.poll >= 0 else (_POLL if len(os.sched_getaffinity(0)) > 1 else 0)
    serve(
        options.db,
        backend,
        Options(options.backend, options.device, _credentials(), poll, options.supervisor, lambda: tell("joined")),
    )
    return 0


def _supervisor(options: argparse.Namespace) -> int:
    def ready() -> None:
        if options.report >= 0:
            os.write(options.report, b"ready\n")
            os.close(options.report)

    passed_on = [
        *("--poll", str(options.poll)),
        *("--intra-op-threads", str(options.intra_op_threads)),
        *("--inter-op-threads", str(options.inter_op_threads)),
    ]
    offers = installed_pairs(options.gpus if options.gpus >= 0 else count_gpus(), options.workers_per_device)
    name = options.name or default_name()
    supervisor = Supervisor(
        options.db, _credentials(), name, offers, passed_on, ready, patience=options.patience, owner=options.owner
    )
    supervisor.run()
    return 0


def _credentials() -> Credentials | None:
    """From the environment, where no process list shows it, and out of it."""
    user = os.environ.pop(USER_VARIABLE, "")
    password = os.environ.pop(PASSWORD_VARIABLE, "")
    return (user, password) if password else None


if __name__ == "__main__":
    sys.exit(main())
