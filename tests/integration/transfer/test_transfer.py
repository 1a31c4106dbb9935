"""Runs on hosts that share no file system with the driver: what a member's folder looks like on the driver's side afterwards."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from taskensemble import Experiment
from taskensemble.errors import InputError, UnsupportedError
from tests.integration.engine.servers import Server
from tests.integration.transfer.conftest import Start

PROGRAM = """
import json, os, sys
from pathlib import Path
assert not os.path.exists(sys.argv[1]), "the driver's file is visible here"
values = dict(line.split() for line in Path("in.plate").read_text().splitlines())
Path("fields/deep").mkdir(parents=True)
Path("fields/deep/t.bin").write_bytes(bytes(range(256)) * int(values["steps"]))
Path("latest").symlink_to("fields/deep/t.bin")
Path("mesh/b.msh").unlink()
Path("run.sh").write_text("#!/bin/sh\\n")
os.chmod("run.sh", 0o750)
print("material", Path("steel.dat").read_text(), json.dumps(values))
print("done", file=sys.stderr)
"""


def experiment(server: Server, **keywords: Any) -> Experiment:
    return Experiment("exp", broker=server.url, **{"shared_filesystem": False, **keywords})


def inputs(here: Path) -> dict[str, list[str]]:
    (here / "case/mesh").mkdir(parents=True)
    (here / "case/mesh/a.msh").write_text("a")
    (here / "case/mesh/b.msh").write_text("b")
    (here / "in.plate").write_text("steps ;STEPS;\n")
    (here / "steel.dat").write_text("steel")
    return {
        "to_copy": [str(here / "case")],
        "to_symlink": [str(here / "steel.dat")],
        "to_configure": [str(here / "in.plate")],
    }


def tree(folder: Path) -> dict[str, Any]:
    """What a folder holds, by path: bytes of files, targets of links, None for folders."""
    return {
        str(path.relative_to(folder)): os.readlink(path)
        if path.is_symlink()
        else None
        if path.is_dir()
        else (path.read_bytes(), path.stat().st_mode & 0o777)
        for path in folder.rglob("*")
        if path.name != "taskensemble_params.txt"
    }


def plate(exp: Experiment, here: Path, name: str = "plate") -> Any:
    rs = exp.create_run_settings(
        sys.executable, ["-c", PROGRAM, str(here / "steel.dat") if name == "plate" else "none"]
    )
    return exp.create_ensemble(name, params={"STEPS": [1, 2, 3]}, run_settings=rs)


def test_a_members_folder_is_as_it_would_be_on_a_shared_file_system(server: Server, here: Path, worker: Start) -> None:
    worker("one")
    worker("two")
    exp = experiment(server)
    files = inputs(here)
    ens = plate(exp, here)
    ens.attach_generator_files(**files)
    exp.start(ens, quiet=True)
    assert exp.get_status(ens) == ["Completed"] * 3, [row["reason"] for row in exp.results()]
    far = [tree(Path(member.path)) for member in ens]
    with Experiment("near", slots=2) as near:
        beside = plate(near, here, "near")
        beside.attach_generator_files(**files)
        near.start(beside, quiet=True)
        assert near.get_status(beside) == ["Completed"] * 3
        expected = [tree(Path(member.path)) for member in beside]
    renamed = [{name.replace("near_", "plate_"): value for name, value in folder.items()} for folder in expected]
    assert far == renamed
    assert far[2]["fields/deep/t.bin"][0] == bytes(range(256)) * 3
    assert far[0]["steel.dat"] == str(here / "steel.dat")
    assert "mesh/b.msh" not in far[0]
    exp.close()


def test_nothing_of_a_run_is_left_in_the_store_or_on_the_hosts(
    server: Server, here: Path, worker: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a signing key, which what is sent is signed with."""
    keys = tmp_path / "keys"
    keys.write_text("k1:" + "5a" * 32 + "\n")
    keys.chmod(0o600)
    monkeypatch.setenv("TASKENSEMBLE_SIGNING_KEY_FILE", str(keys))
    process = worker("one")
    exp = experiment(server)
    ens = plate(exp, here)
    ens.attach_generator_files(**inputs(here))
    exp.start(ens, quiet=True)
    assert exp.get_status(ens) == ["Completed"] * 3
    left = [key.decode() for key in server.client().keys("te:*")]
    assert not [key for key in left if ":content:" in key or ":asset:" in key or key.endswith("outputs")]
    process.terminate()
    process.wait(30)
    assert not [path for path in (tmp_path / "scratch-one").rglob("*") if path.is_file()]
    exp.close()


def test_an_earlier_runs_result_is_not_shown_as_that_of_a_run_that_leaves_none(
    server: Server, here: Path, worker: Start
) -> None:
    worker("one")
    exp = experiment(server)
    write = exp.create_run_settings("/bin/sh", ["-c", "echo '{\"x\": 1}' > result.json"])
    model = exp.create_model("again", write, keep_outputs="failed")
    exp.start(model, quiet=True)
    assert exp.results(model)[0]["result"] == {"x": 1}
    model = exp.create_model("again", exp.create_run_settings("/bin/sleep", ["60"]), keep_outputs="failed")
    run = exp.start(model, block=False)
    deadline = time.monotonic() + 30
    while not run.status().running:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert run.results()[0]["result"] is None
    exp.stop(model)
    assert run.results()[0]["result"] is None
    exp.close()


@pytest.mark.parametrize("status", [0, 3])
def test_a_file_over_the_limit_fails_its_member_and_is_named_and_the_others_come_back(
    server: Server, here: Path, worker: Start, status: int
) -> None:
    worker("one")
    exp = experiment(server, transfer_limit="10K")
    code = f"open('big.bin', 'wb').write(bytes(20000)); open('small.txt', 'w').write('small'); print('said'); exit({status})"
    model = exp.create_model("big", exp.create_run_settings(sys.executable, ["-c", code]))
    exp.start(model, quiet=True)
    assert exp.get_status(model) == ["Failed"]
    reason = exp.results()[0]["reason"]
    assert "big.bin (20000 bytes) goes over transfer_limit=10240 bytes" in reason
    assert ("exit status 3; see " + str(here / "exp/big/big.err") in reason) == bool(status)
    assert Path(model.path, "small.txt").read_text() == "small"
    assert Path(model.path, "big.out").read_text() == "said\n"
    assert not Path(model.path, "big.bin").exists()
    exp.close()


def test_inputs_over_the_limit_are_refused_before_anything_starts(server: Server, here: Path) -> None:
    (here / "large.dat").write_bytes(bytes(3000))
    exp = experiment(server, transfer_limit=2048)
    model = exp.create_model("m", exp.create_run_settings("/bin/true"))
    model.attach_generator_files(to_copy=[str(here / "large.dat")])
    with pytest.raises(InputError, match=r"large\.dat has 3000 bytes: .* transfer_limit=2048 bytes"):
        exp.start(model, quiet=True)
    assert exp.results() == []


def test_a_retry_on_another_host_finds_the_checkpoint_and_both_attempts_outputs_come_back(
    server: Server, here: Path, worker: Start, tmp_path: Path
) -> None:
    first = worker("one")
    exp = experiment(server)
    code = (
        "import os, time\n"
        "attempt = int(os.environ['TASKENSEMBLE_ATTEMPT'])\n"
        "print('attempt', attempt, open('checkpoint').read() if attempt > 1 else '')\n"
        "open('checkpoint', 'w').write(f'step {attempt}')\n"
        "exit(attempt < 2)"
    )
    model = exp.create_model("m", exp.create_run_settings(sys.executable, ["-c", code]), retries=1, retry_delay=3)
    handle = exp.start(model, block=False, quiet=True)
    deadline = time.monotonic() + 60
    while not server.client().exists(f"te:{{{handle.run_id}}}:outputs"):
        assert time.monotonic() < deadline, (tmp_path / "one.log").read_text()
        time.sleep(0.05)
    first.terminate()
    first.wait(30)
    worker("two")
    handle.wait(timeout=90)
    assert exp.get_status(model) == ["Completed"]
    assert exp.results()[0]["worker"] == "two"
    assert Path(model.path, "m.out.1").read_text() == "attempt 1 \n"
    assert Path(model.path, "m.out").read_text() == "attempt 2 step 1\n"
    assert Path(model.path, "checkpoint").read_text() == "step 2"
    exp.close()


def test_files_travel_through_another_store_and_leave_it(
    server: Server, here: Path, worker: Start, tmp_path: Path
) -> None:
    worker("one")
    exp = experiment(server, transfer_store=f"file://{tmp_path}/bucket")
    ens = plate(exp, here)
    ens.attach_generator_files(**inputs(here))
    exp.start(ens, block=False, quiet=True).wait(timeout=90)
    assert exp.get_status(ens) == ["Completed"] * 3, [row["reason"] for row in exp.results()]
    assert "material steel" in Path(ens.models[0].path, "plate_0.out").read_text()
    assert not [path for path in (tmp_path / "bucket").rglob("*") if path.is_file()]
    exp.close()


def test_what_did_not_complete_is_resumed_with_its_inputs(server: Server, here: Path, worker: Start) -> None:
    worker("one")
    exp = experiment(server)
    (here / "in.dat").write_text("data")
    code = "print(open('in.dat').read()); exit(1)"
    model = exp.create_model("m", exp.create_run_settings(sys.executable, ["-c", code]))
    model.attach_generator_files(to_copy=[str(here / "in.dat")])
    handle = exp.start(model, quiet=True)
    (here / "in.dat").unlink()
    assert exp.resume(handle.run_id, quiet=True) is not None
    assert Path(model.path, "m.out").read_text() == "data\n"
    assert Path(model.path, "m.out.1").read_text() == "data\n"
    exp.close()


@pytest.mark.parametrize(
    ("keywords", "told"),
    [
        ({"transfer_limit": "many"}, "transfer_limit='many'"),
        ({"transfer_limit": 0}, "transfer_limit=0"),
        ({"shared_filesystem": True, "transfer_store": "s3://b"}, "transfer_store='s3://b'"),
    ],
)
def test_what_cannot_be_used_is_refused(server: Server, here: Path, keywords: dict[str, Any], told: str) -> None:
    assert here.exists()
    with pytest.raises(InputError, match=told):
        experiment(server, **keywords)


def test_a_store_without_its_package_says_which_one(server: Server, here: Path) -> None:
    exp = experiment(server, transfer_store="abfs://container/runs")
    (here / "in.dat").write_text("data")
    model = exp.create_model("m", exp.create_run_settings("/bin/true"))
    model.attach_generator_files(to_copy=[str(here / "in.dat")])
    with pytest.raises(UnsupportedError, match="adlfs"):
        exp.start(model, quiet=True)
