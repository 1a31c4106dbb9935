"""SmartSim's database: taskensemble's, under its name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, ClassVar

from taskensemble.entity import Database, DatabaseNode, MLModel, Script
from taskensemble.settings import BatchSettings
from taskensemble.smartsim._core.config import CONFIG
from taskensemble.smartsim.entity.dbnode import DBNode
from taskensemble.smartsim.entity.entity import TelemetryConfiguration
from taskensemble.smartsim.entity.entityList import EntityList


class Orchestrator(Database):
    """A standard database: see `taskensemble.entity.Database`. Keywords that the launcher does not know are ignored."""

    node_class: ClassVar[type[DatabaseNode]] = DBNode

    def __init__(
        self,
        path: object = None,
        port: int = 6379,
        interface: str | list[str] = "lo",
        launcher: str = "local",
        run_command: str = "auto",
        db_nodes: int = 1,
        batch: bool = False,
        hosts: list[str] | str | None = None,
        account: str | None = None,
        time: str | None = None,
        alloc: str | None = None,
        single_cmd: bool = False,
        *,
        threads_per_queue: int | None = None,
        inter_op_threads: int | None = None,
        intra_op_threads: int | None = None,
        db_identifier: str = "orchestrator",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            path if isinstance(path, (str, os.PathLike)) else None,
            port,
            interface,
            launcher,
            run_command,
            db_nodes,
            batch,
            hosts,
            account,
            time,
            alloc,
            single_cmd,
            threads_per_queue=threads_per_queue,
            inter_op_threads=inter_op_threads,
            intra_op_threads=intra_op_threads,
            db_identifier=db_identifier,
            **kwargs,
        )
        self.telemetry = TelemetryConfiguration()
        for node in self.entities:
            node.cluster = self.num_shards > 1  # type: ignore[attr-defined]

    def set_path(self, new_path: str) -> None:
        """Choose the database's folder, and that of its servers."""
        super().set_path(new_path)

    @property
    def batch(self) -> BatchSettings | bool:
        """The batch settings, if it runs in a batch job of its own; else False."""
        return self.batch_settings or False

    @property
    def db_models(self) -> Iterator[MLModel]:
        """ML models of its own: none, since they belong to models and ensembles."""
        return iter(())

    @property
    def db_scripts(self) -> Iterator[Script]:
        """Scripts of its own: none, as for ML models."""
        return iter(())

    @property
    def checkpoint_file(self) -> str:
        """The file that `Experiment.reconnect_orchestrator` finds the running database by."""
        return os.path.join(self.path, "smartsim_db.dat")

    @property
    def _interfaces(self) -> list[str]:
        """The network interfaces, under the name that SmartSim's scripts know."""
        return self.interfaces

    @property
    def _rai_module(self) -> tuple[str, ...]:
        """How a server loads the AI module: what SmartSim's scripts put on its command line."""
        told = (
            ("THREADS_PER_QUEUE", self.threads_per_queue),
            ("INTER_OP_PARALLELISM", self.inter_op_threads),
            ("INTRA_OP_PARALLELISM", self.intra_op_threads),
        )
        return ("--loadmodule", CONFIG.redisai, *(text for name, value in told if value for text in (name, str(value))))

    @property
    def queue_threads(self) -> int | None:
        """Inference threads of a device."""
        return self.threads_per_queue

    @property
    def inter_threads(self) -> int | None:
        """Threads between operations."""
        return self.inter_op_threads

    @property
    def intra_threads(self) -> int | None:
        """Threads within an operation."""
        return self.intra_op_threads


EntityList.register(Orchestrator)

__all__ = ["Orchestrator"]
