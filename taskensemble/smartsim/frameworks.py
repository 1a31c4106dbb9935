"""Import of `smartsim.ml.tf` and `smartsim.ml.torch` on demand: a framework takes seconds, and most drivers need none."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

PREFIXES = ("smartsim.ml.tf", "smartsim.ml.torch")


class _AliasFinder(MetaPathFinder):
    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None,  # noqa: ARG002
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        if not any(name == prefix or name.startswith(f"{prefix}.") for prefix in PREFIXES):
            return None
        return ModuleSpec(name, _AliasLoader())


class _AliasLoader(Loader):
    """Loads the module of the same place in this package, and gives it the other name."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        # A plain module stands in while Python sets the attributes of an import on it; then the real one takes its place.
        return ModuleType(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        sys.modules[module.__name__] = import_module(f"taskensemble.{module.__name__}")


def install_finder() -> None:
    """Let Python find the modules under their other name. A second time is fine."""
    if not any(isinstance(finder, _AliasFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AliasFinder())
