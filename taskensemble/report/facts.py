"""What a report knows of a run. Gathering reads the store and the members' folders; everything after that is pure."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from taskensemble.engine.records import RunRecord, RunStatus, State, TemplateRecord
from taskensemble.engine.secret_names import is_secret
from taskensemble.engine.store import Store
from taskensemble.generation.reading import read_end
from taskensemble.results import rows

LOG_TAIL = 2000
"""Bytes of a failed member's standard error that the report shows."""

FAILURES = 20
"""Failed members whose logs it shows."""

LEFT_OUT = "(left out)"

CHECKED = 64 * 1024 * 1024
"""Inputs larger than these bytes are listed without a checksum."""


@dataclass(frozen=True)
class Facts:
    """One run."""

    status: RunStatus
    experiment_path: str
    driver: str
    """host:pid, and the path of its script."""
    versions: dict[str, str]
    commit: str
    """Of the git repository that the experiment's folder is in, with `+` when something in it has changed; else empty."""
    parent: str | None
    members: list[dict[str, Any]]
    """As `taskensemble.results.rows`, with `slots`: the CPUs that a member ran on."""
    failures: list[dict[str, Any]]
    """name, returncode, reason, attempt, log (its path) and tail (its end) of the first failed members."""
    templates: list[dict[str, Any]]
    """command, environment (secrets left out), resources and policy (what is not the default), databases, assets."""
    inputs: list[dict[str, Any]]
    """path, size in bytes and sha256 of the driver's script and of each attached file, as they are now.

    None where one is gone or larger than CHECKED.
    """

    def plain(self) -> dict[str, Any]:
        """The facts as values for JSON, under the names of the fields."""
        return {**asdict(self), "status": self.status.model_dump(mode="json")}


def gather(store: Store, run_id: str) -> Facts:
    """Read everything that a report says about a run.

    Raises:
        RunNotFoundError: there is no such run
    """
    run = store.run(run_id)
    found = store.members(run_id, 0, run.size)
    attempts = store.attempts(run_id, range(run.size))
    members = [
        {**row, "slots": list(attempt.slots)}
        for row, attempt in zip(rows(run, zip(found, attempts, strict=True)), attempts, strict=True)
    ]
    return Facts(
        status=store.status(run_id),
        experiment_path=run.path,
        driver=run.driver,
        versions=dict(run.versions),
        commit=_commit(Path(run.path)),
        parent=run.parent,
        members=members,
        failures=[_failure(row) for row in members if row["state"] == State.FAILED][:FAILURES],
        templates=[_template(template) for template in run.templates],
        inputs=[_input(Path(path)) for path in _attached(run)],
    )


def _failure(row: dict[str, Any]) -> dict[str, Any]:
    log = Path(row["path"]) / f"{row['name']}.err"
    try:
        tail = read_end(log, LOG_TAIL)
    except OSError as error:
        tail = f"{error.strerror}: {log} (it ran on {row['node'] or 'no node'})"
    kept = {name: row[name] for name in ("name", "returncode", "reason", "attempt")}
    return {**kept, "log": str(log), "tail": tail}


def _template(template: TemplateRecord) -> dict[str, Any]:
    environment = {name: LEFT_OUT if left_out(name, value) else value for name, value in sorted(template.env.items())}
    environment |= dict.fromkeys(template.secrets, LEFT_OUT)
    command = (
        [*template.command.head, "…", *template.command.tail] if template.command.tail else [*template.command.head]
    )
    return {
        "command": command,
        "environment": environment,
        "resources": template.resources.model_dump(mode="json", exclude_defaults=True),
        "policy": template.policy.model_dump(mode="json", exclude_defaults=True),
        "databases": [use.identifier or "(unnamed)" for use in template.databases],
        "assets": [
            {
                "name": asset.name,
                "kind": asset.kind,
                "backend": asset.backend,
                "device": asset.device,
                "size": asset.size,
                "sha256": asset.digest,
            }
            for asset in template.assets
        ],
    }


def left_out(name: str, value: object = None) -> bool:
    """Whether a variable's value stays out: a secret, or an address that may hold a password."""
    return is_secret(name, value) or name.endswith("_URL")


def _attached(run: RunRecord) -> Iterable[str]:
    """The driver's script, and every file attached to a member, each once; of a folder the files in it."""
    script = run.driver.partition(" ")[2]
    named = {path for template in run.templates for path in _paths(template)} | ({script} if script else set())
    for path in sorted(named):
        if Path(path).is_dir():
            yield from sorted(str(file) for file in Path(path).rglob("*") if file.is_file())
        else:
            yield path


def _paths(template: TemplateRecord) -> Iterable[str]:
    return (*template.files.copy_, *template.files.symlink, *template.files.configure)


def _input(path: Path) -> dict[str, Any]:
    try:
        size = path.stat().st_size
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if size <= CHECKED else None
    except OSError:
        return {"path": str(path), "size": None, "sha256": None}
    return {"path": str(path), "size": size, "sha256": digest}


def _commit(folder: Path) -> str:
    """The commit that the folder's repository is at; empty where there is no repository or no git."""
    try:
        head = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "-C", str(folder), "status", "--porcelain", "--untracked-files=no"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
    return f"{head}+" if changed else head
