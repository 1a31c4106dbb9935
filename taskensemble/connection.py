"""The control plane that an experiment uses: found, or brought up, when it is first needed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from taskensemble import lifetime

if TYPE_CHECKING:
    from taskensemble.experiment import Experiment
    from taskensemble.launch.control import ControlPlane


class Connection:
    """An experiment's way to its control plane.

    Arguments:
        broker, store: URLs, where the driver gave them
        slots: of the embedded worker; None: as many as cores
        interface: that an embedded control plane listens on
    """

    def __init__(
        self, experiment: Experiment, broker: str | None, store: str | None, slots: int | None, interface: str
    ) -> None:
        self.slots = slots
        self._experiment = experiment
        self._broker, self._store = broker, store
        self._interface = interface
        self._plane: ControlPlane | None = None

    @property
    def open_plane(self) -> ControlPlane | None:
        """The control plane, if it was used and nothing has to be started to use it again."""
        return self._plane if self._plane is not None and self._plane.is_open else None

    @property
    def ends_with_driver(self) -> bool:
        """Whether the control plane is, or would be, one that ends with this process."""
        from taskensemble.launch import control, embedded

        if self._plane is not None:
            return self._plane.is_own
        return control.given(self._broker, self._store) is None and embedded.kept_above(self._folder) is None

    @property
    def has_worker(self) -> bool:
        """Whether a worker of this process runs members: beside its own control plane, or in its allocation."""
        return self._plane is not None and self._plane.has_worker

    def working(self) -> ControlPlane:
        """The control plane with a worker, brought up if need be.

        Raises:
            InputError: the broker or the store cannot be used
            ControlPlaneError: it belongs to another driver, or cannot start
        """
        if self._plane is None:
            from taskensemble.database.server import interface_address
            from taskensemble.launch import control

            address = interface_address(self._interface)
            self._plane = control.for_driver(self._folder, self._broker, self._store, address)
            lifetime.watch(self._experiment)
        self._plane.join(self._experiment)
        self.start_worker(self._plane)
        return self._plane

    def reading(self) -> ControlPlane | None:
        """The control plane for looking at runs; None when there never was one."""
        if self._plane is None:
            from taskensemble.database.server import interface_address
            from taskensemble.launch import control

            address = interface_address(self._interface)
            self._plane = control.for_reader(self._folder, self._broker, self._store, bind=address)
            if self._plane is not None:
                lifetime.watch(self._experiment)
        if self._plane is not None:
            self._plane.join(self._experiment)
        return self._plane

    def start_worker(self, plane: ControlPlane) -> None:
        """Bring up a worker, where this process's own control plane, or its allocation, has none."""
        plane.start_worker(self.slots, allocation=self._experiment.launcher != "local")

    def close(self) -> None:
        """Let go of it; what nobody else uses ends."""
        if self._plane is not None:
            self._plane.close(self._experiment)

    @property
    def _folder(self) -> Path:
        return Path(self._experiment.exp_path)
