"""The file that tells SmartSim's dashboards which runs an experiment has."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskensemble.entity import Database, Ensemble, Entity, Model
from taskensemble.smartsim._core.config import CONFIG

if TYPE_CHECKING:
    from taskensemble.experiment import Experiment

MANIFEST_FILENAME = "manifest.json"


def save_launch_manifest(experiment: Experiment, run_id: str, entities: Iterable[Entity]) -> None:
    """Add a run to the file in the experiment's folder, which is made with its first."""
    path = Path(experiment.exp_path, CONFIG.telemetry_subdir, MANIFEST_FILENAME)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        manifest = json.loads(path.read_text(encoding="utf-8"))
    else:
        about = {"name": experiment.name, "path": experiment.exp_path, "launcher": experiment.launcher}
        manifest = {
            "schema info": {"schema_name": "entity manifest", "version": "0.0.4"},
            "experiment": about,
            "runs": [],
        }
    listed = list(entities)
    manifest["runs"].append(
        {
            "run_id": run_id,
            "timestamp": time.time_ns() // 1_000_000,
            "model": [_model(entity) for entity in listed if isinstance(entity, Model)],
            "orchestrator": [_database(entity) for entity in listed if isinstance(entity, Database)],
            "ensemble": [_ensemble(entity) for entity in listed if isinstance(entity, Ensemble)],
        }
    )
    written = path.with_suffix(".new")
    written.write_text(json.dumps(manifest, indent=2), encoding="utf-8")
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
