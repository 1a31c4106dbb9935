"""Workers and supervisors as processes: what ends, what starts again, what is replaced."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis

pytest.importorskip("torch")

IDENTITY = "def same(x):\n    return x\n"


def eventually(holds: Callable[[], Any], within: float = 60.0) -> Any:
    """What a condition returns once it holds."""
    deadline = time.monotonic() + within
    while True:
        found = holds()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {within} s"
        time.sleep(0.02)


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def stored(server: Any) -> int:
    """Store a script, which starts a worker; its pid."""
    server("AI.SCRIPTSET", "s", "CPU", "SOURCE", IDENTITY)
    server.put("x", np.ones(2, np.float32))
    pid: int = server.workers()[0]["pid"]
    return pid


def run(server: Any) -> None:
    server("AI.SCRIPTRUN", "s", "same", "INPUTS", "x", "OUTPUTS", "y")


def test_a_worker_is_started_by_the_first_store_and_not_before(start: Callable[..., Any]) -> None:
    server = start()
    assert server.workers() == []
    stored(server)
    assert [worker["backend"] for worker in server.workers()] == ["TORCH"]


def test_a_killed_worker_is_replaced_when_there_is_work(start: Callable[..., Any]) -> None:
    server = start()
    first = stored(server)
    os.kill(first, signal.SIGKILL)
    eventually(lambda: not lives(first))
    run(server)
    assert server.workers()[0]["pid"] != first


def test_requests_that_run_while_the_worker_dies_are_answered(start: Callable[..., Any]) -> None:
    server = start()
    stored(server)
    failures: list[Exception] = []
    over = threading.Event()

    def ask() -> None:
        client = redis.Redis(unix_socket_path=str(server.folder / "s"), socket_timeout=120)
        while not over.is_set():
            try:
                client.execute_command("AI.SCRIPTRUN", "s", "same", "INPUTS", "x", "OUTPUTS", "y")
            except redis.ResponseError as error:
                failures.append(error)
        client.close()

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    killed = server.workers()[0]["pid"]
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: server.workers() and server.workers()[0]["units"] > 50)
    over.set()
    for thread in threads:
        thread.join(60)
    assert failures == []


def test_a_worker_that_hangs_is_replaced_and_the_caller_told(start: Callable[..., Any]) -> None:
    server = start()
    first = stored(server)
    server(
        "AI.SCRIPTSET",
        "endless",
        "CPU",
        "SOURCE",
        "def f(x):\n    while bool(x[0] > 0):\n        x = x + 0\n    return x\n",
    )
    server("AI.CONFIG", "WORKER_TIMEOUT", 1000)
    with pytest.raises(redis.ResponseError):
        server("AI.SCRIPTRUN", "endless", "f", "INPUTS", "x", "OUTPUTS", "y")
    eventually(lambda: not lives(first))
    server("AI.CONFIG", "WORKER_TIMEOUT", 60000)
    run(server)
    assert server.workers()[0]["pid"] != first


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_supervisor_and_workers_end_with_the_server(start: Callable[..., Any], number: signal.Signals) -> None:
    server = start()
    worker = stored(server)
    server_pid, supervisor = server.record.processes
    os.kill(server_pid, number)
    eventually(lambda: not any(map(lives, (server_pid, supervisor, worker))))


def test_workers_end_with_a_killed_supervisor(start: Callable[..., Any]) -> None:
    server = start()
    worker = stored(server)
    os.kill(server.record.processes[1], signal.SIGKILL)
    eventually(lambda: not lives(worker))


def test_a_server_that_was_a_replica_for_a_while_has_its_supervisor_again(start: Callable[..., Any]) -> None:
    server = start()
    stored(server)
    server("REPLICAOF", "127.0.0.1", 1)
    server("REPLICAOF", "NO", "ONE")
    run(server)
    assert server.get("y").tolist() == [1, 1]


def test_a_supervisor_whose_connection_was_cut_joins_again(start: Callable[..., Any]) -> None:
    server = start()
    stored(server)
    for client in server.client.client_list():
        if client["cmd"].lower().startswith("ai._worker"):
            server("CLIENT", "KILL", "ID", client["id"])
    run(server)
    assert server.get("y").tolist() == [1, 1]


def test_everything_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from taskensemble.database import DatabaseOptions, start_database\n"
        "record = start_database(DatabaseOptions(name='db', folder=Path(sys.argv[1])))\n"
        "print(*record.processes, flush=True)\n"
        "time.sleep(600)\n"
    )
    starter = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    pids = [int(word) for word in starter.stdout.readline().split()]
    assert len(pids) == 2
    starter.kill()
    starter.wait()
    starter.stdout.close()
    eventually(lambda: not any(map(lives, pids)))


def test_a_worker_over_tcp_serves_a_database_without_a_supervisor(start: Callable[..., Any]) -> None:
    from taskensemble.database import free_port

    port = free_port()
    server = start(port=port, supervise=False)
    with pytest.raises(redis.ResponseError, match="Could not load backend"):
        server("AI.SCRIPTSET", "s", "CPU", "SOURCE", IDENTITY)
    command = [sys.executable, "-m", "workers.inference", "--db", f"127.0.0.1:{port}", "--backend", "TORCH"]
    worker = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        eventually(server.workers)
        stored(server)
        large = np.random.default_rng(2).random(200_000)
        server.put("x", large)
        run(server)
        np.testing.assert_array_equal(server.get("y"), large)
    finally:
        worker.terminate()
        worker.wait(30)


def test_a_worker_of_its_own_comes_back_to_a_restarted_server(start: Callable[..., Any], tmp_path: Path) -> None:
    from taskensemble.database import DatabaseOptions, free_port, start_database, stop_database

    port = free_port()
    options = DatabaseOptions(name="db", folder=tmp_path, port=port, supervise=False)
    record = start_database(options)
    command = [sys.executable, "-m", "workers.inference", "worker", "--db", f"127.0.0.1:{port}", "--backend", "TORCH"]
    worker = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        for _ in range(2):
            client: Any = redis.Redis(port=port, socket_timeout=60)
            eventually(lambda client=client: client.execute_command("AI._WORKER", "LIST"))
            client.close()
            stop_database(record)
            record = start_database(options)
    finally:
        stop_database(record)
        worker.terminate()
        worker.wait(30)


def test_a_backend_whose_wheel_is_missing_says_what_to_install(
    start: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A package that cannot be imported stands before the real one for the processes of this database.
    broken = tmp_path / "torch"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise ImportError('no torch here')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    server = start()
    with pytest.raises(redis.ResponseError, match="Could not load backend"):
        server("AI.SCRIPTSET", "s", "CPU", "SOURCE", IDENTITY)
    assert "pip install 'taskensemble[torch]'" in (server.folder / "db_inference.log").read_text()


def test_a_users_own_workers_module_does_not_shadow_ours(
    start: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "workers.py").write_text("raise SystemExit('the wrong workers')\n")
    monkeypatch.chdir(tmp_path)
    stored(start())


@pytest.mark.parametrize("how", ["shared memory", "socket"])
def test_nothing_is_left_in_shared_memory_or_descriptors_when_workers_die(start: Callable[..., Any], how: str) -> None:
    def named() -> set[str]:
        """Segments that have a name; folders there belong to programs whose temporary folder it is."""
        return {entry.name for entry in os.scandir("/dev/shm") if "taskensemble" in entry.name and not entry.is_dir()}

    before_start = named()
    server = start()
    stored(server)
    server.put("x", np.zeros(500_000 if how == "shared memory" else 10))
    server_pid = server.record.processes[0]

    def descriptors() -> int:
        return len(os.listdir(f"/proc/{server_pid}/fd"))

    def segments() -> list[str]:
        links = [os.readlink(f"/proc/{server_pid}/fd/{name}") for name in os.listdir(f"/proc/{server_pid}/fd")]
        return [link for link in links if "memfd" in link]

    run(server)
    before = descriptors(), len(segments())
    for _ in range(2):
        os.kill(server.workers()[0]["pid"], signal.SIGKILL)
        eventually(lambda: not server.workers())
        run(server)
    assert (descriptors(), len(segments())) == before
    assert named() <= before_start


def test_on_a_restricted_server_workers_serve_and_scripts_may_no_more_than_members(start: Callable[..., Any]) -> None:
    server = start(restricted=True)
    source = (
        "def f(x):\n    redis.execute('SET', 'k', '1')\n    return x\n"
        "def g(x):\n    redis.execute('FLUSHALL')\n    return x\n"
    )
    server("AI.SCRIPTSET", "s", "CPU", "SOURCE", source)
    server.put("x", np.ones(2, np.float32))
    server("AI.SCRIPTRUN", "s", "f", "INPUTS", "x", "OUTPUTS", "y")
    assert server("GET", "k") == b"1"
    with pytest.raises(redis.ResponseError, match="no permissions to run the 'flushall' command"):
        server("AI.SCRIPTRUN", "s", "g", "INPUTS", "x", "OUTPUTS", "y")
    assert server("GET", "k") == b"1"


def test_a_script_that_asks_the_database_to_wait_does_not_keep_its_worker(start: Callable[..., Any]) -> None:
    server = start()
    source = (
        "def call(tensors: List[Tensor], keys: List[str], args: List[str]):\n"
        "    redis.execute(args[0], args[1:])\n"
        "    return tensors[0]\n"
    )
    server("AI.SCRIPTSTORE", "s", "CPU", "ENTRY_POINTS", 1, "call", "SOURCE", source)
    server.put("x", np.ones(2, np.float32))

    def call(*words: str) -> Any:
        return server(
            "AI.SCRIPTEXECUTE", "s", "call", "INPUTS", 1, "x", "ARGS", len(words), *words, "OUTPUTS", 1, "y", "TIMEOUT", 60_000
        )  # fmt: skip

    assert call("BLPOP", "nothing", "0") == b"OK"
    refused = "Redis command returned an error: ERR "
    with pytest.raises(redis.ResponseError, match=refused + "Cannot run RedisAI command within a transaction"):
        call("AI.SCRIPTEXECUTE", "s", "call", "INPUTS", "1", "x", "ARGS", "1", "PING", "OUTPUTS", "1", "y")
    for word in ("MULTI", "subscribe", "CLIENT"):
        with pytest.raises(redis.ResponseError, match=refused + f"{word.upper()} is not for scripts"):
            call(word, "x")
    with pytest.raises(redis.ResponseError, match=r"Invalid argument .ERR wrong number of arguments for 'set' command"):
        call("SET", "k")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        call("INCR", "x")
    assert call("SAVE") == b"OK"
    assert call("SET", "k", "1") == b"OK"
    assert server("GET", "k") == b"1"


def test_an_onnx_run_past_the_limit_is_ended(start: Callable[..., Any]) -> None:
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    # A loop of 2^40 rounds: it ends when onnxruntime is told to, or never.
    helper, kind = onnx.helper, onnx.TensorProto
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["still"]),
            helper.make_node("Add", ["carried", "carried"], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("round", kind.INT64, []),
            helper.make_tensor_value_info("go_on", kind.BOOL, []),
            helper.make_tensor_value_info("carried", kind.FLOAT, [2]),
        ],
        [
            helper.make_tensor_value_info("still", kind.BOOL, []),
            helper.make_tensor_value_info("next", kind.FLOAT, [2]),
        ],
    )
    rounds = helper.make_tensor("rounds", kind.INT64, [], [2**40])
    always = helper.make_tensor("always", kind.BOOL, [], [True])
    graph = helper.make_graph(
        [helper.make_node("Loop", ["rounds", "always", "x"], ["y"], body=body)],
        "endless",
        [helper.make_tensor_value_info("x", kind.FLOAT, [2])],
        [helper.make_tensor_value_info("y", kind.FLOAT, [2])],
        [rounds, always],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    server = start(module_arguments=("MODEL_EXECUTION_TIMEOUT", "1000"))
    server("AI.MODELSTORE", "endless", "ONNX", "CPU", "BLOB", model.SerializeToString())
    server.put("x", np.ones(2, np.float32))
    with pytest.raises(redis.ResponseError, match="Exiting due to terminate flag being set to true"):
        server("AI.MODELEXECUTE", "endless", "INPUTS", 1, "x", "OUTPUTS", 1, "y")
    assert server.workers()[0]["units"] > 0
