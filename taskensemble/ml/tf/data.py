"""Training data from running members as Keras datasets: `model.fit(DynamicDataGenerator(...), epochs=20)`."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from ..data import DataDownloader


class _Generator(DataDownloader, keras.utils.PyDataset):  # type: ignore[misc, unused-ignore]
    """A `DataDownloader` that Keras asks for batches by number."""

    def __init__(self, **kwargs: Any) -> None:
        keras.utils.PyDataset.__init__(self)
        DataDownloader.__init__(self, **kwargs)

    def __getitem__(self, index: int) -> Any:
        if len(self) < 1:
            raise ValueError(
                f"{self.num_samples} samples are not enough for one batch of {self.batch_size}: run init_samples(), "
                "or create this with init_samples=True"
            )
        return self._data_generation(self._calc_indices(index))

    def on_epoch_end(self) -> None:
        """What Keras calls after each epoch: update the data, then shuffle it, where these are asked for."""
        self.update_data()

    def _data_generation(self, indices: NDArray[np.int64]) -> Any:
        batch = super()._data_generation(indices)
        if self.need_targets and self.num_classes is not None:
            return batch[0], keras.utils.to_categorical(batch[1], num_classes=self.num_classes)
        return batch


class StaticDataGenerator(_Generator):
    """Training data that is downloaded once. Arguments: those of `DataDownloader`, by keyword; `dynamic` is always False."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**(kwargs | {"dynamic": False}))


class DynamicDataGenerator(_Generator):
    """Training data that grows after each epoch. Arguments: those of `DataDownloader`, by keyword; `dynamic` is always True."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**(kwargs | {"dynamic": True}))
