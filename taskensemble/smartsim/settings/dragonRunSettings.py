"""Run settings of Dragon, which taskensemble does not launch with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Never

from taskensemble.errors import InputTypeError, UnsupportedSettingsError
from taskensemble.settings import RunSettings


class DragonRunSettings(RunSettings):
    """What a program was to be run with under Dragon. A driver may make and read them; a start refuses them.

    Parameters:
        exe, exe_args, env_vars: as for `RunSettings`.
    """

    def __init__(
        self,
        exe: str,
        exe_args: str | list[str] | None = None,
        env_vars: Mapping[str, str | None] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(exe, exe_args, run_command="", env_vars=env_vars, **kwargs)

    def set_nodes(self, nodes: int) -> None:
        """Nodes to run on."""
        self.run_args["nodes"] = nodes

    def set_tasks_per_node(self, tasks_per_node: int) -> None:
        """Processes on each node."""
        self.run_args["tasks-per-node"] = tasks_per_node

    def set_node_feature(self, feature_list: str | list[str]) -> None:
        """Features that the nodes must have.

        Raises:
            TypeError: neither text nor a list of text.
        """
        features = feature_list.split() if isinstance(feature_list, str) else feature_list
        if not all(isinstance(feature, str) for feature in features):
            raise InputTypeError(f"feature_list={feature_list!r}: feature_list must be string or list of strings")
        self.run_args["node-feature"] = ",".join(features)

    def set_cpu_affinity(self, devices: Iterable[int]) -> None:
        """CPUs of a node to run on."""
        self.run_args["cpu-affinity"] = ",".join(str(device) for device in devices)

    def set_gpu_affinity(self, devices: Iterable[int]) -> None:
        """GPUs of a node to run on."""
        self.run_args["gpu-affinity"] = ",".join(str(device) for device in devices)

    def command(self) -> Never:
        """Always refused, before anything starts.

        Raises:
            SSUnsupportedError: Dragon is no launcher of ours.
        """
        raise UnsupportedSettingsError(
            f"DragonRunSettings({self.exe[0]!r}): taskensemble's workers take the place of the Dragon launcher; use "
            "create_run_settings"
        )
