"""What a start would do, printed from its plan: three levels, plain text and JSON."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskensemble.engine.records import EntityRecord, MemberRecord, RunRecord, TemplateRecord
from taskensemble.errors import InputError, PreviewFormatError
from taskensemble.summary import describe

if TYPE_CHECKING:
    from taskensemble.entity import Database
    from taskensemble.experiment import Experiment
    from taskensemble.plan import Plan

LEVELS = ("info", "debug", "developer")
FORMATS = ("plain_text", "json")
SHOWN = 20
"""Members of an ensemble that plain text lists; JSON lists all."""


def check_arguments(verbosity_level: str, output_format: str) -> None:
    """Refuse what cannot be rendered.

    Raises:
        PreviewFormatError: an unknown format
        InputError: an unknown level
    """
    if output_format not in FORMATS:
        raise PreviewFormatError(f"output_format={output_format!r} is unknown; use {' or '.join(FORMATS)}.")
    if verbosity_level not in LEVELS:
        raise InputError(f"verbosity_level={verbosity_level!r} is unknown; use {', '.join(LEVELS)}.")


def render(
    experiment: Experiment, plan: Plan, databases: Sequence[Database], verbosity_level: str, output_format: str
) -> str:
    """The preview as text."""
    described = describe_plan(experiment, plan, databases, verbosity_level)
    if output_format == "json":
        return json.dumps(described, indent=2)
    return "\n".join(_lines(described)).rstrip()


def describe_plan(
    experiment: Experiment, plan: Plan, databases: Sequence[Database], verbosity_level: str
) -> dict[str, Any]:
    """The preview as plain data: what `output_format="json"` prints."""
    run = plan.run
    detailed = verbosity_level != "info"
    members: dict[int, list[MemberRecord]] = {entity.index: [] for entity in run.entities}
    for member in plan.members:
        members[member.entity].append(member)
    described: dict[str, Any] = {
        "experiment": {"name": experiment.name, "path": experiment.exp_path, "launcher": experiment.launcher},
        "databases": [_database(database, detailed) for database in databases],
        "entities": [_entity(run, entity, members[entity.index], detailed) for entity in run.entities],
    }
    if plan.batches:
        described["batch_jobs"] = {
            queue: _batch_script(experiment, plan, queue) if detailed else str(settings)
            for queue, settings in plan.batches.items()
        }
    if verbosity_level == "developer":
        described["record"] = run.model_dump(mode="json", by_alias=True)
    return described


def _batch_script(experiment: Experiment, plan: Plan, queue: str) -> str:
    """The script of a batch job as a start would submit it."""
    from taskensemble.launch.batch import JobPaths, batch_queue, job_script

    titles = {batch_queue(plan.run.run_id, entity.index): entity.name for entity in plan.run.entities}
    record = plan.batches[queue].record()
    return job_script(record, JobPaths.of(Path(experiment.exp_path), queue), title=titles[queue])


def _database(database: Database, detailed: bool) -> dict[str, Any]:
    described: dict[str, Any] = {
        "identifier": database.db_identifier,
        "servers": database.num_shards,
        "ports": database.ports,
        "interfaces": database.interfaces,
    }
    if detailed:
        described |= {"path": database.path, "launcher": database.launcher, "active": database.is_active()}
    return described


def _entity(run: RunRecord, entity: EntityRecord, members: Sequence[MemberRecord], detailed: bool) -> dict[str, Any]:
    templates = [run.templates[number] for number in sorted({member.template for member in members})]
    described: dict[str, Any] = {
        "name": entity.name,
        "type": entity.kind,
        "path": entity.path,
        "members": [_member(run, member, detailed) for member in members],
    }
    if entity.after:
        described["after"] = [run.entities[other].name for other in entity.after]
    assets = {asset.name: describe(asset) for template in templates for asset in template.assets}
    if assets:
        described["ml_assets"] = list(assets.values())
    if detailed:
        described["on_failure"] = entity.on_failure
        described["templates"] = [_template(template) for template in templates]
    return described


def _member(run: RunRecord, member: MemberRecord, detailed: bool) -> dict[str, Any]:
    template = run.templates[member.template]
    described: dict[str, Any] = {"name": member.name, "params": dict(member.params)}
    if detailed:
        described["command"] = shlex.join([*template.command.head, *member.args, *template.command.tail])
    return described


def _template(template: TemplateRecord) -> dict[str, Any]:
    """What is not as everybody has it."""
    described: dict[str, Any] = {
        name: part
        for name in ("resources", "policy")
        if (part := getattr(template, name).model_dump(mode="json", exclude_defaults=True))
    }
    files = template.files.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    environment = {**template.env, **dict.fromkeys(template.secrets, "(secret)")}
    if files:
        described["files"] = files
    if environment:
        described["environment"] = environment
    if template.databases:
        described["databases"] = [
            use.identifier or "unnamed" if use.colocated is None else f"colocated ({use.colocated.transport})"
            for use in template.databases
        ]
    if template.key_prefixing:
        described["key_prefixing"] = True
    if template.incoming:
        described["reads_from"] = list(template.incoming)
    return described


def _lines(described: dict[str, Any]) -> Iterable[str]:
    experiment = described["experiment"]
    yield "=== Experiment Overview ==="
    yield ""
    yield f"  Experiment Name: {experiment['name']}"
    yield f"  Experiment Path: {experiment['path']}"
    yield f"  Launcher: {experiment['launcher']}"
    yield ""
    yield "=== Entity Preview ==="
    for database in described["databases"]:
        yield ""
        yield f"  == Database: {database['identifier']} =="
        yield from _facts({key: value for key, value in database.items() if key != "identifier"}, "    ")
    for entity in described["entities"]:
        yield ""
        yield f"  == {entity['type']}: {entity['name']} =="
        yield f"    Path: {entity['path']}"
        yield from _facts({key: entity[key] for key in ("after", "ml_assets", "on_failure") if key in entity}, "    ")
        for template in entity.get("templates", []):
            yield from _facts(template, "    ")
        yield f"    Members: {len(entity['members'])}"
        for member in islice(entity["members"], SHOWN):
            params = ", ".join(f"{name}={value}" for name, value in member["params"].items())
            yield f"      {member['name']}{': ' + params if params else ''}"
            if "command" in member:
                yield f"        {member['command']}"
        if len(entity["members"]) > SHOWN:
            yield f"      … and {len(entity['members']) - SHOWN} more"
    for queue, settings in described.get("batch_jobs", {}).items():
        yield ""
        yield f"  == Batch job: {queue} =="
        yield from (f"    {line}" for line in settings.splitlines())
    if "record" in described:
        yield ""
        yield "=== Record ==="
        yield json.dumps(described["record"], indent=2)


def _facts(facts: dict[str, Any], indent: str) -> Iterable[str]:
    for key, value in facts.items():
        title = key.replace("_", " ").capitalize()
        if isinstance(value, dict):
            yield f"{indent}{title}:"
            yield from _facts(value, indent + "  ")
        elif isinstance(value, list):
            yield f"{indent}{title}: {', '.join(str(item) for item in value)}"
        else:
            yield f"{indent}{title}: {value}"
