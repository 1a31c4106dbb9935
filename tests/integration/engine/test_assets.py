"""ML assets are in the databases before the first member starts, or no member starts at all."""

from __future__ import annotations

import hashlib
import io
import sys
from pathlib import Path

import pytest

from taskensemble.database import DatabaseOptions, start_database, stop_database
from taskensemble.engine.records import AssetRecord, ColocatedRecord, DatabaseUseRecord, State
from tests.integration.engine.plane import Plane, carriers
from tests.integration.engine.runs import one_entity, template

torch = pytest.importorskip("torch")

CLIENT = """
import os, sys, redis
address = os.environ[sys.argv[1]]
client = redis.Redis(unix_socket_path=address[7:]) if address.startswith("unix") else redis.Redis(*address.split(":"))
client.execute_command("AI.TENSORSET", "in", "FLOAT", 2, "VALUES", 1, 2)
client.execute_command("AI.MODELEXECUTE", "double", "INPUTS", 1, "in", "OUTPUTS", 1, "out")
print(client.execute_command("AI.TENSORGET", "out", "VALUES"))
"""


def model() -> bytes:
    class Double(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, x):  # type: ignore[no-untyped-def]
            return 2 * x

    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(Double(), torch.ones(2)), buffer)
    return buffer.getvalue()


def asset(content: bytes, **fields: object) -> AssetRecord:
    digest = hashlib.sha256(content).hexdigest()
    return AssetRecord(name="double", kind="model", digest=digest, size=len(content), **fields)  # type: ignore[arg-type]


def test_assets_are_there_before_the_first_member_starts_and_a_bad_one_starts_none(
    plane: Plane, tmp_path: Path
) -> None:
    plane.worker("--slots", "2")
    (tmp_path / "db").mkdir()
    address = start_database(DatabaseOptions(name="db", folder=tmp_path / "db"))
    try:
        plane.store.set_database(str(tmp_path), address)
        content = model()
        for blob, state in ((content, State.COMPLETED), (b"no model at all", State.FAILED)):
            command = [sys.executable, "-c", CLIENT, "SSDB"]
            run, members = one_entity(tmp_path, command, 3)
            uses = (DatabaseUseRecord(identifier=""),)
            run = run.model_copy(update={"templates": (template(command, databases=uses, assets=(asset(blob),)),)})
            plane.store.write_run(run, members, {asset(blob).digest: blob})
            from taskensemble.engine import messages

            messages.publish_setup(plane.broker_url, run)
            status = plane.finish(run.run_id)
            assert status.state is state, status.reason
            events = list(plane.store.watch(run.run_id, timeout=5))
            starts = [event.time for event in events if event.kind == "start"]
            loaded = [event.time for event in events if event.kind == "assets"]
            assert len(loaded) == 1
            if state is State.COMPLETED:
                assert len(starts) == 3
                assert loaded[0] <= min(starts)
                assert (tmp_path / "plate/plate_1/plate_1.out").read_text() == "[b'2', b'4']\n"
            else:
                assert starts == []
                assert status.cancelled == 3
                assert "double" in status.reason
    finally:
        stop_database(address)


def test_a_missing_database_fails_the_run_and_names_it(plane: Plane, tmp_path: Path) -> None:
    plane.worker("--slots", "1")
    run, members = one_entity(tmp_path, ["/bin/true"], 1)
    uses = (DatabaseUseRecord(identifier="gone", suffix="gone"),)
    run = run.model_copy(update={"templates": (template(["/bin/true"], databases=uses, assets=(asset(b"x"),)),)})
    status = plane.finish(plane.start(run, members))
    assert status.state is State.FAILED
    assert "'gone' is not running" in status.reason


@pytest.mark.parametrize("shared", [False, True])
def test_a_colocated_database_has_its_assets_before_the_program_starts_and_ends_with_it(
    plane: Plane, tmp_path: Path, shared: bool
) -> None:
    plane.worker("--slots", "2")
    content = model()
    command = [sys.executable, "-c", CLIENT, "SSDB_near"]
    run, members = one_entity(tmp_path, command, 2)
    colocated = ColocatedRecord(transport="unix", shared=shared)
    uses = (DatabaseUseRecord(identifier="near", suffix="near", colocated=colocated),)
    run = run.model_copy(update={"templates": (template(command, databases=uses, assets=(asset(content),)),)})
    plane.store.write_run(run, members, {asset(content).digest: content})
    from taskensemble.engine import messages

    messages.publish_setup(plane.broker_url, run)
    status = plane.finish(run.run_id)
    assert status.state is State.COMPLETED, status.reason
    for name in ("plate_0", "plate_1"):
        assert (tmp_path / f"plate/{name}/{name}.out").read_text() == "[b'2', b'4']\n"
    plane.close()
    assert carriers(str(tmp_path / "plate")) == []
