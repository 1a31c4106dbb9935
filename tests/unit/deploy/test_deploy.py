"""What deploy/ says is what the command line understands."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from taskensemble.cli.main import app

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"
MANIFESTS = sorted((DEPLOY / "kubernetes").rglob("*.yaml"))


def documents(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def our_commands() -> list[tuple[str, list[str]]]:
    compose = documents(DEPLOY / "compose" / "compose.yaml")[0]
    found = [(name, service["command"]) for name, service in compose["services"].items() if "command" in service]
    for path in MANIFESTS:
        for document in documents(path):
            pod = (
                document.get("spec", {}).get("template", {}).get("spec", {})
                if document["kind"] != "Kustomization"
                else {}
            )
            found += [(path.stem, each["args"]) for each in pod.get("containers", ()) if "args" in each]
    for path in sorted((DEPLOY / "systemd").glob("*.service")):
        line = next(line for line in path.read_text().splitlines() if line.startswith("ExecStart="))
        found.append((path.name, line.split("taskensemble ", 1)[1].split()))
    return found


@pytest.mark.parametrize(("where", "arguments"), our_commands())
def test_every_command_in_deploy_is_one_that_the_command_line_takes(where: str, arguments: list[str]) -> None:
    command: Any = get_command(app)
    rest = list(arguments)
    while hasattr(command, "commands"):
        assert rest[0] in command.commands, f"{where}: no command {rest[0]!r}"
        command = command.commands[rest.pop(0)]
    known = {option for parameter in command.params for option in parameter.opts + parameter.secondary_opts}
    if command.context_settings.get("ignore_unknown_options"):
        return  # its options belong to a worker, which has a parser of its own
    assert {argument for argument in rest if argument.startswith("-")} <= known, f"{where}: {rest}"


@pytest.mark.parametrize(
    "folder", sorted((DEPLOY / "kubernetes").rglob("kustomization.yaml")), ids=lambda path: path.parent.name
)
def test_every_resource_of_a_kustomization_exists_and_none_is_left_out(folder: Path) -> None:
    resources = documents(folder)[0]["resources"]
    assert all((folder.parent / resource).exists() for resource in resources)
    siblings = {path.name for path in folder.parent.glob("*.yaml")} - {folder.name}
    assert siblings <= set(resources)


def test_every_manifest_says_what_it_is_and_selects_its_own_pods() -> None:
    for path in MANIFESTS:
        for document in documents(path):
            assert document["apiVersion"]
            if document["kind"] in ("Deployment", "StatefulSet"):
                labels = document["spec"]["template"]["metadata"]["labels"]
                assert document["spec"]["selector"]["matchLabels"] == labels
            elif document["kind"] != "Kustomization":
                assert document["metadata"]["name"]


def test_no_password_stands_in_deploy() -> None:
    for path in DEPLOY.rglob("*"):
        if path.is_file():
            for line in path.read_text().splitlines():
                if "redis://:" in line:
                    assert any(
                        mark in line
                        for mark in ("$P", "${TASKENSEMBLE_PASSWORD", "$TASKENSEMBLE_PASSWORD", "PASSWORD@")
                    )


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("this machine has no systemd")
    units = []
    for path in sorted((DEPLOY / "systemd").glob("*.service")):
        units.append(tmp_path / path.name.replace("@", "@node"))
        shutil.copy(path, units[-1])
    done = subprocess.run(
        ["systemd-analyze", "verify", *units], capture_output=True, text=True, timeout=120, check=False
    )
    complaints = [line for line in done.stderr.splitlines() if "taskensemble" in line]
    assert done.returncode == 0, done.stderr
    assert not complaints
