"""What deploy/ says is what the command line understands."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from taskensemble.cli.main import app

ROOT = Path(__file__).resolve().parents[3]
DEPLOY = ROOT / "deploy"
SCRIPTS = sorted([*(DEPLOY / "slurm").iterdir(), *(DEPLOY / "pbs").iterdir()])
HISTOGRAM = ("bucket", "count", "sum")
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
    for path in [*SCRIPTS, ROOT / "Procfile"]:
        lines = path.read_text().replace("\\\n", " ").splitlines()
        for line in lines:
            for _, words in re.findall(
                r"(^|[ /;'])taskensemble ((?:up|down|worker|db|flower|metrics)\b[^;&|']*)", line
            ):
                if not line.startswith("#"):
                    found.append((path.name, shlex.split(words)))
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


def test_every_manifest_follows_the_schema_of_kubernetes() -> None:
    validator = pytest.importorskip("kubernetes_validate")
    for path in MANIFESTS:
        for document in documents(path):
            if document["kind"] not in ("Kustomization", "ScaledObject"):
                validator.validate(document, "1.31", strict=True)


def our_metrics() -> set[str]:
    """Names that `taskensemble.metrics` tells, with the endings that Prometheus gives them."""
    code = (ROOT / "taskensemble" / "metrics.py").read_text()
    table = re.findall(r"^\| (taskensemble_\S.*?) \| (gauge|counter|histogram) \|", code, flags=re.MULTILINE)
    names = set()
    for cell, kind in table:
        first, *rest = cell.split(", ")
        names |= {first, *_siblings(first, rest)} if kind != "histogram" else {f"{first}_{end}" for end in HISTOGRAM}
    return names


def _siblings(first: str, endings: list[str]) -> Iterator[str]:
    """`a_b_calls_total, _errors_` names a_b_errors_total too; `a_slots, _slots_free` names a_slots_free."""
    for ending in endings:
        stem = first.removesuffix("_total").rpartition("_")[0]
        yield f"{stem}{ending}total" if ending.endswith("_") else f"{stem}{ending}"


def queries() -> list[tuple[str, str]]:
    """Every query that a dashboard or an alert asks, and where."""
    board = json.loads((DEPLOY / "grafana" / "dashboards" / "taskensemble.json").read_text())
    found = [(panel["title"], each["expr"]) for panel in board["panels"] for each in panel.get("targets", ())]
    rules = documents(DEPLOY / "prometheus" / "alerts.yml")[0]["groups"][0]["rules"]
    found += [(rule["alert"], rule["expr"]) for rule in rules]
    scaling = documents(DEPLOY / "kubernetes" / "overlays" / "keda" / "worker-scaling.yaml")[0]
    return [*found, ("KEDA", scaling["spec"]["triggers"][0]["metadata"]["query"])]


@pytest.mark.parametrize(("where", "query"), queries())
def test_every_query_asks_for_metrics_that_there_are(where: str, query: str) -> None:
    asked = set(re.findall(r"taskensemble_\w+", query))
    assert asked
    assert asked <= our_metrics()


def test_the_panels_of_the_dashboard_do_not_overlap_and_have_ids_of_their_own() -> None:
    board = json.loads((DEPLOY / "grafana" / "dashboards" / "taskensemble.json").read_text())
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert all(x < 24 for x, _ in cells)
        taken |= cells
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_what_compose_mounts_from_this_repository_exists() -> None:
    compose = documents(DEPLOY / "compose" / "compose.yaml")[0]
    mounts = [
        volume.split(":")[0]
        for service in compose["services"].values()
        for volume in service.get("volumes", ())
        if volume.startswith("..")
    ]
    assert len(mounts) >= 4
    assert all((DEPLOY / "compose" / mount).exists() for mount in mounts)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_shell_reads_the_job_scripts(script: Path) -> None:
    done = subprocess.run(["bash", "-n", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


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
