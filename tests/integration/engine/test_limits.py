"""A worker that is limited to programs and folders refuses everything else, links and `..` included."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from taskensemble.engine import messages
from taskensemble.engine.records import AssetRecord, ColocatedRecord, DatabaseUseRecord, FilesRecord, State
from tests.integration.engine import runs
from tests.integration.engine.plane import ROOT, Plane


def reason(plane: Plane, path: Path, command: list[str], **fields: object) -> str:
    """Runs one member; why it failed, empty when it completed."""
    run, members = runs.one_entity(path, command)
    run = run.model_copy(update={"templates": (run.templates[0].model_copy(update=fields),)})
    plane.start(run, members)
    plane.finish(run.run_id)
    return plane.store.attempts(run.run_id, [0])[0].reason


def test_only_allowed_programs_start(plane: Plane, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "link").symlink_to("/usr/bin/id")
    (tools / "own").write_text("#!/bin/sh\nexit 0\n")
    (tools / "own").chmod(0o755)
    plane.worker("--slots", "1", "--allow-executables", "true", "--allow-executables", str(tools))
    assert reason(plane, tmp_path, ["/bin/true"]) == ""
    assert reason(plane, tmp_path, ["true"]) == ""
    assert reason(plane, tmp_path, [str(tools / "own")]) == ""
    outside = (["/usr/bin/id"], ["id"], [str(tools / "link")], [f"{tools}/../../../../usr/bin/id"], ["nowhere"])
    for command in outside:
        assert "--allow-executables" in reason(plane, tmp_path, command), command
    assert "LD_PRELOAD" in reason(plane, tmp_path, ["/bin/true"], env={"LD_PRELOAD": "/tmp/evil.so"})
    # The name is looked for where the member would find it.
    (tools / "bin").mkdir()
    (tools / "bin" / "true").symlink_to("/usr/bin/id")
    assert "--allow-executables" in reason(plane, tmp_path, ["true"], env={"PATH": str(tools / "bin")})
    # It finds what is in its own folder where an entry is empty or relative.
    foreign = tmp_path / "given" / "true"
    foreign.parent.mkdir()
    foreign.write_text(f"#!/bin/sh\ntouch {tmp_path}/foreign\n")
    foreign.chmod(0o755)
    given = FilesRecord(copy=(str(foreign),))
    for entry in ("", "."):
        path = {"PATH": f"{entry}:{os.environ['PATH']}"}
        assert "--allow-executables" in reason(plane, tmp_path, ["true"], env=path, files=given)
    assert not (tmp_path / "foreign").exists()


def test_folders_and_files_outside_of_the_roots_are_refused(plane: Plane, tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    for folder in (inside, outside):
        folder.mkdir()
        (folder / "file").write_text("x")
    (inside / "link").symlink_to(outside)
    (inside / "tree").mkdir()
    (inside / "tree" / "link").symlink_to(outside / "file")
    plane.worker("--slots", "1", "--allow-roots", str(inside))
    assert reason(plane, inside, ["/bin/true"], files=FilesRecord(copy=(str(inside / "file"),))) == ""
    for folder in (outside, inside / "link", inside / ".." / "out"):
        assert "--allow-roots" in reason(plane, folder, ["/bin/true"]), folder
    for source in (outside / "file", inside / "link" / "file", inside / ".." / "out" / "file", inside / "tree"):
        assert "--allow-roots" in reason(plane, inside / "b", ["/bin/true"], files=FilesRecord(copy=(str(source),)))
    assert not (outside / "plate").exists()


def test_a_permitted_program_is_given_no_foreign_code_by_its_environment(plane: Plane, tmp_path: Path) -> None:
    """Neither by what is loaded into it, nor by what a permitted script calls, nor by variables that only the store shows."""
    tools, evil = tmp_path / "tools", tmp_path / "evil"
    for folder in (tools, evil):
        folder.mkdir()
    (tools / "script").write_text("#!/bin/bash\ndate > /dev/null\n")
    for name in ("date", "true", "env"):
        (evil / name).write_text(f"#!/bin/bash\ntouch {tmp_path}/foreign\n")
    for path in (tools / "script", *evil.iterdir()):
        path.chmod(0o755)
    plane.worker("--slots", "1", "--allow-executables", "true", "--allow-executables", str(tools))
    script = [str(tools / "script")]
    assert reason(plane, tmp_path, script, env={"PATH": f"{tools}:{os.environ['PATH']}", "THREADS": "2"}) == ""
    foreign = {
        "BASH_ENV": str(evil / "env"),
        "BASH_FUNC_date%%": f"() {{ touch {tmp_path}/foreign; }}",
        "PYTHONPATH": str(evil),
        "LD_PRELOAD_32": str(evil / "env"),
        "PATH": f"{evil}:{os.environ['PATH']}",
    }
    for name, value in foreign.items():
        assert "--allow-executables" in reason(plane, tmp_path, script, env={name: value}), name
        # The values of secret variables stand in no record.
        run, members = runs.one_entity(tmp_path, ["true"] if name == "PATH" else script)
        template = run.templates[0].model_copy(update={"secrets": (name,)})
        run = run.model_copy(update={"templates": (template,)})
        plane.store.write_run(run, members, secrets={f"0:{name}": value})
        messages.publish_setup(plane.broker_url, run)
        plane.finish(run.run_id)
        assert "--allow-executables" in plane.store.attempts(run.run_id, [0])[0].reason, name
    assert not (tmp_path / "foreign").exists()


def test_an_ml_asset_outside_of_the_roots_is_not_read(plane: Plane, tmp_path: Path) -> None:
    inside = tmp_path / "in"
    inside.mkdir()
    (tmp_path / "model.pt").write_text("x")
    asset = AssetRecord(name="net", kind="model", digest="0" * 64, size=1, path=str(inside / ".." / "model.pt"))
    plane.worker("--slots", "1", "--allow-roots", str(inside))
    run, members = runs.one_entity(inside, ["/bin/true"])
    use = DatabaseUseRecord(identifier="", colocated=ColocatedRecord(transport="unix"))
    template = run.templates[0].model_copy(update={"assets": (asset,), "databases": (use,)})
    plane.start(run.model_copy(update={"templates": (template,)}), members)
    status = plane.finish(run.run_id)
    assert status.state is State.FAILED
    assert "--allow-roots" in status.reason
    assert "'net'" in status.reason


@pytest.mark.parametrize(
    ("options", "environment", "words"),
    [
        (["--allow-executables", "no-such-program"], {}, "--allow-executables 'no-such-program'"),
        ([], {"TASKENSEMBLE_ALLOW_ROOTS": "/no/such/folder"}, "--allow-roots '/no/such/folder'"),
    ],
)
def test_a_limit_that_names_nothing_keeps_the_worker_from_starting(
    options: list[str], environment: dict[str, str], words: str
) -> None:
    address = {"TASKENSEMBLE_BROKER_URL": "redis://127.0.0.1:1/0", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "workers.app", *options],
        env={**os.environ, **address, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert words in done.stderr
