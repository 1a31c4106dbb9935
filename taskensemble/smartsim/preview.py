"""SmartSim's preview: what a start would run, under the titles that scripts look for in it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from taskensemble.database.server import server_binary
from taskensemble.entity import Database, Ensemble, Entity, Model
from taskensemble.errors import DatabaseError

STEP = "  "
BACKEND = "redis"
"""What SmartSim calls the kind of server that a database is."""


def render(
    experiment: Any, entities: Iterable[Entity], active: Mapping[str, Any], verbosity_level: str = "info"
) -> str:
    """The preview as text.

    Args:
        experiment: whose name, folder and launcher are told.
        entities: what would be started.
        active: databases that run already, or servers of theirs, by identifier.
        verbosity_level: info, or debug and developer, which tell more and the same.
    """
    detailed = verbosity_level != "info"
    listed = list(entities)
    databases = [entity for entity in listed if isinstance(entity, Database)]
    models = [entity for entity in listed if isinstance(entity, Model)]
    ensembles = [entity for entity in listed if isinstance(entity, Ensemble)]
    lines = ["=== Experiment Overview ===", ""]
    lines += [f"  Experiment Name: {experiment.name}"]
    lines += [f"    Experiment Path: {experiment.exp_path}", f"    Launcher: {experiment.launcher}"]
    if listed or active:
        lines += ["", "=== Entity Preview ==="]
    if active:
        lines += ["", "  == Active Infrastructure =="]
        for identifier, database in active.items():
            lines += ["", f"    = Database Identifier: {getattr(database, 'db_identifier', identifier)} ="]
            about = _database(database, detailed=True) if isinstance(database, Database) else _server(database)
            lines += _indented(about, 4)
    waiting = [database for database in databases if not database.is_active()]
    if databases:
        lines += ["", "  == Orchestrators =="]
        for database in databases:
            if database.is_active():
                lines += [f"    WARNING: Cannot preview {database.name}, because it is already started."]
                continue
            lines += ["", f"    = Database Identifier: {database.name} ="]
            lines += _indented(_database(database, detailed), 4)
    if models:
        lines += ["", "  == Models =="]
        for model in models:
            lines += ["", f"    = Model Name: {model.name} ="]
            lines += _indented([*_model(model, detailed), *_client(model, waiting, detailed)], 4)
    if ensembles:
        lines += ["", "  == Ensembles =="]
        for ensemble in ensembles:
            lines += ["", f"    = Ensemble Name: {ensemble.name} ="]
            lines += _indented(_ensemble(ensemble, detailed), 4)
            lines += _members(ensemble, waiting, detailed)
    return "\n".join(lines)


def write_preview(text: str, filename: str | None) -> None:
    """Print a preview, or write it to a file. One that is there is kept: the next is `<stem>_01.txt`, then `<stem>_02.txt`, …"""
    if filename is None:
        print(text)
        return
    path = candidate = Path(filename)
    number = 0
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.stem}_{number:02}.txt")
    candidate.write_text(text + "\n", encoding="utf-8")


def _indented(lines: Iterable[str], levels: int) -> Iterator[str]:
    return (STEP * levels + line for line in lines)


def _block(title: str, lines: Iterable[str]) -> list[str]:
    """A title over its lines; nothing without lines."""
    listed = list(lines)
    return [f"{title}:", *_indented(listed, 1)] if listed else []


def _database(database: Database, detailed: bool) -> Iterator[str]:
    if detailed:
        yield f"Path: {database.path}"
        yield f"Shards: {database.num_shards}"
    yield from _block("TCP/IP Port(s)", map(str, database.ports))
    yield f"Network Interface: {database.interfaces[0]}"
    yield f"Type: {BACKEND}"
    if detailed:
        yield f"Executable: {_server_program()}"
        if database.run_command:
            yield f"Run Command: {database.run_command}"
    yield from _batch(database.batch_settings, detailed)


def _server_program() -> str:
    """Path of the server that a start runs."""
    try:
        return os.path.abspath(server_binary())
    except DatabaseError as error:
        return f"none ({error})"


def _server(node: Any) -> Iterator[str]:
    """One server of a database, which has no settings of the whole."""
    yield f"Shards: {node.num_shards}"
    yield from _block("TCP/IP Port(s)", map(str, node.ports))
    arguments = getattr(node.run_settings, "exe_args", ())
    yield f"Network Interface: {next((each.rpartition('=')[2] for each in arguments if 'ifname=' in each), '')}"
    yield f"Type: {BACKEND}"


def _batch(settings: Any, detailed: bool) -> Iterator[str]:
    if not settings:
        return
    yield "Batch Launch: True"
    if detailed:
        yield f"Batch Command: {settings.batch_cmd}"
        yield from _block("Batch Arguments", (f"{name}: {value}" for name, value in settings.batch_args.items()))


def _model(model: Model, detailed: bool) -> Iterator[str]:
    settings: Any = model.run_settings
    if detailed:
        yield f"Path: {model.path}"
        yield f"Executable: {settings.exe[0]}"
        yield from _block("Executable Arguments", map(str, settings.exe_args))
        if settings.run_command:
            yield f"Run Command: {settings.run_command}"
        yield from _block("Run Arguments", (f"{name} {value}" for name, value in settings.run_args.items()))
    yield from _batch(model.batch_settings, detailed)
    yield from _block("Model Parameters", (f"{name}: {value}" for name, value in model.params.items()))
    if detailed and model.files is not None:
        for title, paths in (
            ("Tagged Files for Model Configuration", model.files.tagged),
            ("Copy Files", model.files.copy),
            ("Symlink Files", model.files.link),
        ):
            yield from _block(title, (line for path in paths for line in (path, f"-> {model.path}")))
    if model.colocated_database is not None:
        yield from _block("Colocated", _connection(model, detailed))
    if detailed or model.colocated:
        yield from _assets(model, detailed)
    if model.query_key_prefixing():
        yield f"Key Prefix: {model.name}"


def _connection(model: Model, detailed: bool) -> Iterator[str]:
    """How a model reaches its colocated database."""
    settings: Mapping[str, Any] = getattr(model.run_settings, "colocated_db_settings", None) or {}
    if settings.get("db_identifier"):
        yield f"Database Identifier: {settings['db_identifier']}"
    if settings.get("port"):
        yield "Connection Type: TCP"
        yield from _block("TCP/IP Port(s)", [str(settings["port"])])
    if settings.get("unix_socket"):
        yield "Connection Type: UDS"
        yield f"Unix Socket: {settings['unix_socket']}"
    if detailed:
        if names := settings.get("ifname"):
            yield f"Network Interface Name: {names if isinstance(names, str) else names[0]}"
        yield f"CPUs: {settings.get('cpus')}"
        yield f"Custom Pinning: {settings.get('custom_pinning')}"


def _assets(model: Model, detailed: bool) -> Iterator[str]:
    scripts: list[str] = []
    for script in model.db_scripts:
        scripts += [f"Name: {script.name}", f"  Path: {script.file}"]
        if detailed:
            scripts += [f"  Backend: {script.device}", f"  Devices Per Node: {script.devices_per_node}"]
    yield from _block("Torch Scripts", scripts)
    models: list[str] = []
    for asset in model.db_models:
        models += [f"Name: {asset.name}", f"  Path: {asset.file}", f"  Backend: {asset.backend}"]
        if detailed:
            models += [f"  Device: {asset.device}", f"  Devices Per Node: {asset.devices_per_node}"]
            if asset.device.upper().startswith("GPU"):
                models += [f"  First Device: {asset.first_device}"]
        models += [*_indented(_block("Inputs", asset.inputs), 1), *_indented(_block("Outputs", asset.outputs), 1)]
    yield from _block("ML Models", models)


def _client(model: Model, databases: Sequence[Database], detailed: bool) -> list[str]:
    """What a client inside the model finds."""
    lines: list[str] = []
    if model.colocated_database is not None:
        lines += [f"Database Backend: {BACKEND}", *_connection(model, detailed), "Type: Colocated"]
    for database in databases:
        lines += [f"Database Identifier: {database.name}", f"  Database Backend: {BACKEND}"]
        lines += _indented(_block("TCP/IP Port(s)", map(str, database.ports)), 1)
        lines += ["  Type: Standalone"]
    if not lines:
        return []
    if detailed:
        lines += _block("Incoming Entities (Available Data Sources)", (each.name for each in model.incoming_entities))
    if detailed or model.query_key_prefixing():
        toggle = "On" if model.query_key_prefixing() else "Off"
        lines += _block(
            "Outgoing Key Collision Prevention (Key Prefixing)",
            [
                f"Tensors: {toggle}",
                f"Datasets: {toggle}",
                "ML Models/Torch Scripts: Off",
                f"Aggregation Lists: {toggle}",
            ],
        )
    return _block("Client Configuration", lines)


def _ensemble(ensemble: Ensemble, detailed: bool) -> Iterator[str]:
    if detailed:
        yield f"Path: {ensemble.path}"
    yield f"Members: {len(ensemble)}"
    if detailed:
        yield from _block("Ensemble Parameters", (f"{name}: {_text(value)}" for name, value in ensemble.params.items()))
        if ensemble.replicas:
            yield f"Replicas: {ensemble.replicas}"
        else:
            yield f"Permutation Strategy: {ensemble.perm_strat}"
    yield from _batch(ensemble.batch_settings, detailed)


def _text(value: object) -> str:
    if isinstance(value, str) or not isinstance(value, Iterable):
        return str(value)
    return ", ".join(map(str, value))


def _members(ensemble: Ensemble, databases: Sequence[Database], detailed: bool) -> list[str]:
    """Each member; without details the first and the last of more than two."""
    shortened = not detailed and len(ensemble) > 2
    lines: list[str] = []
    for model in [ensemble[0], ensemble[-1]] if shortened else ensemble:
        lines += ["", f"    - Model Name: {model.name} -"]
        lines += _indented([*_model(model, detailed), *_client(model, databases, detailed)], 4)
        if shortened and model is ensemble[0]:
            lines += ["        ..."]
    return lines
