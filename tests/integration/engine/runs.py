"""Runs for tests, made the way the plan makes them, without a plan."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from taskensemble.engine.records import (
    CommandRecord,
    EntityRecord,
    MemberRecord,
    PolicyRecord,
    ResourcesRecord,
    RunRecord,
    TemplateRecord,
)


def template(command: Sequence[str], *, policy: dict[str, Any] | None = None, **fields: Any) -> TemplateRecord:
    """A template for one command line."""
    return TemplateRecord(command=CommandRecord(head=tuple(command)), policy=PolicyRecord(**(policy or {})), **fields)


def one_entity(
    path: Path,
    command: Sequence[str],
    size: int = 1,
    *,
    policy: dict[str, Any] | None = None,
    resources: dict[str, Any] | None = None,
    args: Sequence[Sequence[str]] = (),
    **entity_fields: Any,
) -> tuple[RunRecord, list[MemberRecord]]:
    """A run of one ensemble whose members all run `command` with their own `args`."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    entity = EntityRecord(
        index=0, name="plate", kind="Ensemble", path=str(path / "plate"), first=0, size=size, **entity_fields
    )
    run = RunRecord(
        run_id=name,
        experiment="exp",
        path=str(path),
        created=time.time(),
        entities=(entity,),
        templates=(template(command, policy=policy, resources=ResourcesRecord(**(resources or {}))),),
    )
    members = [
        MemberRecord(index=i, entity=0, template=0, name=f"plate_{i}", args=tuple(args[i]) if args else ())
        for i in range(size)
    ]
    return run, members
