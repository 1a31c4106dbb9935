"""Training data from running members as torch datasets.

for epoch in range(20):
    for samples, targets in loader:   # DataLoader(DynamicDataGenerator(...), num_workers=2)
        ...
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from numpy.typing import NDArray
from torch.utils import data

from ..data import DataDownloader


class _Generator(DataDownloader, data.IterableDataset):  # type: ignore[misc, type-arg, unused-ignore]
    """A `DataDownloader` of torch tensors, which connects where it is iterated: perhaps in a worker process."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**(kwargs | {"init_samples": False}))

    def __iter__(self) -> Iterator[Any]:
        if not len(self):
            self.init_samples(self.max_fetch_trials, self.wait_interval)
        return super().__iter__()

    def _joined(self, present: Any, new: list[NDArray[Any]]) -> Any:
        tensors = [torch.from_numpy(array) for array in new]
        return torch.cat(tensors if present is None else [present, *tensors])


class StaticDataGenerator(_Generator):
    """Training data that is downloaded once. Arguments: those of `DataDownloader`, by keyword.

    `dynamic` is always False, and the samples come with the first iteration, whatever `init_samples` says.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**(kwargs | {"dynamic": False}))


class DynamicDataGenerator(_Generator):
    """Training data that grows with each iteration. Arguments: those of `DataDownloader`, by keyword.

    `dynamic` is always True, and the first samples come with the first iteration, whatever `init_samples` says.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**(kwargs | {"dynamic": True}))


def _begin_worker(_: int) -> None:
    """Give each worker process of a loader its share of the data."""
    worker = data.get_worker_info()
    generator = worker.dataset
    generator.set_replica_parameters(
        replica_rank=generator.replica_rank * worker.num_workers + worker.id,
        num_replicas=generator.num_replicas * worker.num_workers,
    )


class DataLoader(data.DataLoader):  # type: ignore[misc, type-arg, unused-ignore]
    """A torch DataLoader for the generators of this module; its workers share the uploads among themselves.

    Arguments:
        dataset: a StaticDataGenerator or a DynamicDataGenerator, which makes the batches: `batch_size` here is None.
        kwargs: those of `torch.utils.data.DataLoader`.
    """

    def __init__(self, dataset: _Generator, **kwargs: Any) -> None:
        kwargs.setdefault("batch_size", None)
        kwargs.setdefault("persistent_workers", kwargs.get("num_workers", 0) > 0)
        super().__init__(dataset, worker_init_fn=_begin_worker, **kwargs)
