"""The file that tells SmartSim's dashboards which runs an experiment has."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from taskensemble.entity import Database, Ensemble, Model
from taskensemble.smartsim._core.control.manifest import MANIFEST_FILENAME

if TYPE_CHECKING:
    from taskensemble.smartsim._core.control.manifest import LaunchedManifest


def save_launch_manifest(manifest: LaunchedManifest[Any]) -> None:
    """Add a run to the file in the experiment's folder, which is made with its first."""
    about = manifest.metadata
    path = about.manifest_file_path
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        listed = {
            "schema info": {"schema_name": "entity manifest", "version": "0.0.4"},
            "experiment": {"name": about.exp_name, "path": about.exp_path, "launcher": about.launcher_name},
            "runs": [],
        }
    listed["runs"].append(
        {
            "run_id": about.run_id,
            "timestamp": time.time_ns() // 1_000_000,
            "model": [_model(model) for model, _ in manifest.models],
            "orchestrator": [_database(database) for database, _ in manifest.databases],
            "ensemble": [_ensemble(ensemble) for ensemble, _ in manifest.ensembles],
        }
    )
    written = path.with_suffix(".new")
    written.write_text(json.dumps(listed, indent=2), encoding="utf-8")
    written.replace(path)


def _model(model: Model) -> dict[str, Any]:
    files, settings = model.files, model.run_settings
    return {
        "name": model.name,
        "path": model.path,
        "exe_args": [str(argument) for argument in getattr(settings, "exe_args", ())],
        "run_settings": {
            "exe": list(getattr(settings, "exe", ())),
            "run_command": getattr(settings, "run_command", None),
            "run_args": {name: str(value) for name, value in getattr(settings, "run_args", {}).items()},
        },
        "batch_settings": _batch(model.batch_settings),
        "params": {name: str(value) for name, value in model.params.items()},
        "files": {
            "Symlink": list(files.link) if files else [],
            "Configure": list(files.tagged) if files else [],
            "Copy": list(files.copy) if files else [],
        },
        "models": [{asset.name: {"backend": asset.backend, "device": asset.device}} for asset in model.db_models],
        "scripts": [{asset.name: {"backend": "TORCH", "device": asset.device}} for asset in model.db_scripts],
    }


def _ensemble(ensemble: Ensemble) -> dict[str, Any]:
    return {
        "name": ensemble.name,
        "params": {name: str(value) for name, value in ensemble.params.items()},
        "batch_settings": _batch(ensemble.batch_settings),
        "models": [_model(model) for model in ensemble],
    }


def _database(database: Database) -> dict[str, Any]:
    return {
        "name": database.db_identifier,
        "type": "redis",
        "interface": list(database.interfaces),
        "shards": [{"name": node.name, "port": database.ports[0]} for node in database.entities],
    }


def _batch(settings: Any) -> dict[str, Any]:
    if settings is None:
        return {}
    return {
        "batch_command": settings.batch_cmd,
        "batch_args": {name: str(value) for name, value in settings.batch_args.items()},
    }


__all__ = ["MANIFEST_FILENAME", "save_launch_manifest"]
