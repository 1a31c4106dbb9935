"""Training data that comes from running members: batches of samples go up as datasets of an aggregation list, and a
trainer takes them down while they appear.

The layout is SmartSim's: datasets `training_samples[_<rank>]_<n>` with one tensor of samples and perhaps one of targets,
gathered in a list; beside it a dataset `<list>_info` that tells the tensors' names.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taskensemble.ai import Client, Dataset
from taskensemble.ai.error import RedisReplyError
from taskensemble.errors import DatabaseError, InputError, InputTypeError

log = logging.getLogger("taskensemble.ml")


def form_name(*args: object) -> str:
    """The arguments that are not None, joined by underscores."""
    return "_".join(str(arg) for arg in args if arg is not None)


def _text(name: str, value: object, *, empty: bool = False) -> None:
    if not isinstance(value, str):
        raise InputTypeError(f"{name}={value!r}: give text")
    if not value and not empty:
        raise InputError(f"{name}={value!r} can not be empty: give a name")


def _number(name: str, value: object, least: float, *, whole: bool = True) -> None:
    kinds = (int, np.integer) if whole else (int, float, np.integer, np.floating)
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise InputTypeError(f"{name}={value!r}: give a {'whole ' if whole else ''}number")
    if not least <= value < float("inf"):
        raise InputError(f"{name}={value!r}: give {least} or more")


class DataInfo:
    """What a trainer must know of the training data.

    Arguments:
        list_name: the aggregation list that gathers the batches.
        sample_name: the tensor of samples in each batch.
        target_name: the tensor of targets; the sample's name for autoencoders, empty for none.
        num_classes: of categorical targets.

    Raises:
        InputError, InputTypeError: an empty name, or what is no name or number.
    """

    def __init__(
        self,
        list_name: str,
        sample_name: str = "samples",
        target_name: str = "targets",
        num_classes: int | None = None,
    ) -> None:
        _text("list_name", list_name)
        _text("sample_name", sample_name)
        _text("target_name", target_name, empty=True)
        if num_classes is not None:
            _number("num_classes", num_classes, 0)
        self.list_name = list_name
        self.sample_name = sample_name
        self.target_name = target_name
        self.num_classes = num_classes

    @property
    def _dataset_name(self) -> str:
        return form_name(self.list_name, "info")

    def publish(self, client: Client) -> None:
        """Store this in the database as the dataset `<list_name>_info`."""
        dataset = Dataset(self._dataset_name)
        dataset.add_meta_string("sample_name", self.sample_name)
        if self.target_name:
            dataset.add_meta_string("target_name", self.target_name)
        if self.num_classes:
            dataset.add_meta_scalar("num_classes", self.num_classes)
        client.put_dataset(dataset)

    def download(self, client: Client) -> None:
        """Take over what was published; if nothing was, warn and keep the values."""
        try:
            dataset = client.get_dataset(self._dataset_name)
        except RedisReplyError as error:
            log.warning(
                "Nothing is published as %s, so these values are kept: %s (%s)", self._dataset_name, self, error
            )
            return
        fields = dataset.get_metadata_field_names()
        self.sample_name = dataset.get_meta_strings("sample_name")[0]
        if "target_name" in fields:
            self.target_name = dataset.get_meta_strings("target_name")[0]
        if "num_classes" in fields:
            self.num_classes = int(dataset.get_meta_scalars("num_classes")[0])

    def __repr__(self) -> str:
        lines = [
            "DataInfo object",
            f"Aggregation list name: {self.list_name}",
            f"Sample tensor name: {self.sample_name}",
        ]
        if self.target_name:
            lines.append(f"Target tensor name: {self.target_name}")
        if self.num_classes:
            lines.append(f"Number of classes: {self.num_classes}")
        return "\n".join(lines)


class _Named:
    """What both sides call the data."""

    _info: DataInfo

    @property
    def list_name(self) -> str:
        """The list that the batches are gathered in."""
        return self._info.list_name

    @property
    def sample_name(self) -> str:
        """The tensor of samples in each batch."""
        return self._info.sample_name

    @property
    def target_name(self) -> str:
        """The tensor of targets in each batch."""
        return self._info.target_name

    @property
    def num_classes(self) -> int | None:
        """How many classes the targets tell apart; None: they are no classes."""
        return self._info.num_classes


class TrainingDataUploader(_Named):
    """Puts batches of training data where a `DataDownloader` finds them. Used by the simulation.

    Arguments:
        list_name, sample_name, target_name, num_classes: as in `DataInfo`.
        cluster: whether the database is a cluster.
        address: `host:port` of the database; SSDB by default.
        rank: number of this process among those that upload to one list; part of the batches' names.
        verbose: log each batch.

    Raises:
        InputError, InputTypeError: as `DataInfo`.
        RedisConnectionError: the database cannot be reached.
    """

    def __init__(
        self,
        list_name: str = "training_data",
        sample_name: str = "samples",
        target_name: str = "targets",
        num_classes: int | None = None,
        cluster: bool = True,
        address: str | None = None,
        rank: int | None = None,
        verbose: bool = False,
    ) -> None:
        self._info = DataInfo(list_name, sample_name, target_name, num_classes)
        self.client = Client(cluster, address=address)
        self.verbose = verbose
        self.batch_idx = 0
        self.rank = rank

    def publish_info(self) -> None:
        """Tell the trainers the names of the tensors."""
        self._info.publish(self.client)

    def put_batch(self, samples: NDArray[Any], targets: NDArray[Any] | None = None) -> None:
        """Upload one batch.

        Arguments:
            samples: one sample along the first dimension each.
            targets: as many targets; ignored for autoencoders.
        """
        batch = Dataset(form_name("training_samples", self.rank, self.batch_idx))
        batch.add_tensor(self.sample_name, samples)
        if targets is not None and self.target_name and self.target_name != self.sample_name:
            batch.add_tensor(self.target_name, targets)
        self.client.put_dataset(batch)
        self.client.append_to_list(self.list_name, batch)
        if self.verbose:
            log.info("Put batch %s into list %s", batch.get_name(), self.list_name)
        self.batch_idx += 1


class DataDownloader(_Named):
    """Takes training data down, and gives batches of it. Used by the trainer.

    Its sources are the members named in SSKEYIN, or, if there are none, the list without a prefix. Iterating downloads
    what is new (if `dynamic`), shuffles (if `shuffle`) and yields `(samples, targets)`, or samples alone where there are
    no targets; a last batch that would be smaller is left out.

    Arguments:
        data_info_or_list_name: what the data is called; for a bare list name, what was published about it is used.
        batch_size: samples in a batch.
        dynamic: whether `update_data` looks for new data.
        shuffle: whether `update_data` shuffles.
        cluster, address: the database, as in `TrainingDataUploader`.
        replica_rank, num_replicas: this trainer's number and how many there are; each takes every n-th upload.
        verbose: log what happens.
        init_samples: whether to wait for the first data here; otherwise call `init_samples()`.
        max_fetch_trials: how often to look for the first data; -1 is without end.
        wait_interval: seconds between looks.

    Raises:
        InputTypeError, InputError: the first argument is neither a DataInfo nor a str, or a number is none or out of range.
        DatabaseError: there was no data at the last look.
    """

    def __init__(
        self,
        data_info_or_list_name: str | DataInfo,
        batch_size: int = 32,
        dynamic: bool = True,
        shuffle: bool = True,
        cluster: bool = True,
        address: str | None = None,
        replica_rank: int = 0,
        num_replicas: int = 1,
        verbose: bool = False,
        init_samples: bool = True,
        max_fetch_trials: int = -1,
        wait_interval: float = 10.0,
    ) -> None:
        _number("batch_size", batch_size, 1)
        _number("max_fetch_trials", max_fetch_trials, -1)
        _number("wait_interval", wait_interval, 0, whole=False)
        self.uploader_keys = os.environ.get("SSKEYIN", "").split(",")
        self.set_replica_parameters(replica_rank, num_replicas)
        self.address = address
        self.cluster = cluster
        self.verbose = verbose
        self.samples: Any = None
        self.targets: Any = None
        self.num_samples = 0
        self.indices: NDArray[np.int64] = np.arange(0)
        self.shuffle = shuffle
        self.dynamic = dynamic
        self.batch_size = batch_size
        self.max_fetch_trials = max_fetch_trials
        self.wait_interval = wait_interval
        if isinstance(data_info_or_list_name, DataInfo):
            self._info = data_info_or_list_name
        elif isinstance(data_info_or_list_name, str):
            self._info = DataInfo(data_info_or_list_name)
            client = Client(cluster, address)
            self._info.download(client)
            client.close()
        else:
            raise InputTypeError(f"data_info_or_list_name={data_info_or_list_name!r} must be either DataInfo or str")
        self._client: Client | None = None
        if init_samples:
            self.init_samples(max_fetch_trials, wait_interval)

    @property
    def client(self) -> Client:
        """The connection that `init_samples` made.

        Raises:
            ValueError: it has not been called.
        """
        if self._client is None:
            raise ValueError("Client not initialized: call init_samples()")
        return self._client

    @property
    def autoencoding(self) -> bool:
        """Whether the samples are their own targets."""
        return self.sample_name == self.target_name

    @property
    def need_targets(self) -> bool:
        """Whether targets have to be downloaded."""
        return bool(self.target_name) and not self.autoencoding

    def log(self, message: str) -> None:
        """Log a message if this is verbose."""
        if self.verbose:
            log.info(message)

    def set_replica_parameters(self, replica_rank: int, num_replicas: int) -> None:
        """Say which share of the data is this trainer's; what is downloaded already stays.

        Raises:
            InputError, InputTypeError: there is no such share.
        """
        _number("num_replicas", num_replicas, 1)
        _number("replica_rank", replica_rank, 0)
        if replica_rank >= num_replicas:
            raise InputError(
                f"replica_rank={replica_rank}: of num_replicas={num_replicas} the last is {num_replicas - 1}"
            )
        self.replica_rank = replica_rank
        self.num_replicas = num_replicas
        self.next_indices = [replica_rank] * len(self.uploader_keys)

    def __len__(self) -> int:
        return self.num_samples // self.batch_size

    def __iter__(self) -> Iterator[Any]:
        self.update_data()
        if len(self) < 1:
            raise ValueError(
                f"{self.num_samples} samples are not enough for one batch of {self.batch_size}: run init_samples(), create this "
                "with init_samples=True, or take a smaller batch_size"
            )
        for index in range(len(self)):
            yield self._data_generation(self._calc_indices(index))

    def init_samples(self, init_trials: int = -1, wait_interval: float = 10.0) -> None:
        """Connect, and wait for the first data.

        Arguments:
            init_trials: how often to look; -1 or 0 is without end.
            wait_interval: seconds between looks.

        Raises:
            DatabaseError: there was no data at the last look.
            InputError, InputTypeError: what is no number, or out of range.
        """
        _number("init_trials", init_trials, -1)
        _number("wait_interval", wait_interval, 0, whole=False)
        if self._client is None:
            self._client = Client(self.cluster, self.address)
        trial = 0
        while not len(self):
            self._update_samples_and_targets()
            trial += 1
            if len(self):
                break
            if trial == init_trials:
                raise DatabaseError(
                    f"Could not download {self.batch_size} samples from list {self.list_name} in {init_trials} trials"
                )
            self.log(f"{self.num_samples} samples so far, will look again in {wait_interval} seconds")
            time.sleep(wait_interval)
        if self.shuffle:
            np.random.shuffle(self.indices)

    def update_data(self) -> None:
        """Download what is new, if this is dynamic, and shuffle, if asked to."""
        if self.dynamic:
            self._update_samples_and_targets()
        if self.shuffle:
            np.random.shuffle(self.indices)

    def _update_samples_and_targets(self) -> None:
        for source, key in enumerate(self.uploader_keys):
            if key:
                self.client.use_list_ensemble_prefix(True)
                self.client.set_data_source(key)
            length = self.client.get_list_length(self.list_name)
            start = self.next_indices[source]
            if length > start:
                indices = list(range(start, length, self.num_replicas))
                self._add_samples(indices)
                self.next_indices[source] = indices[-1] + self.num_replicas

    def _add_samples(self, indices: list[int]) -> None:
        if self.num_replicas == 1:
            datasets = self.client.get_dataset_list_range(self.list_name, indices[0], indices[-1])
        else:
            datasets = [self.client.get_dataset_list_range(self.list_name, index, index)[0] for index in indices]
        self.samples = self._joined(self.samples, [dataset.get_tensor(self.sample_name) for dataset in datasets])
        if self.need_targets:
            self.targets = self._joined(self.targets, [dataset.get_tensor(self.target_name) for dataset in datasets])
        self.num_samples = len(self.samples)
        self.indices = np.arange(self.num_samples)
        self.log(f"New dataset size: {self.num_samples}, batches: {len(self)}")

    def _joined(self, present: Any, new: list[NDArray[Any]]) -> Any:
        """The data so far with new arrays at its end, in the form that this class keeps."""
        return np.concatenate(new if present is None else [present, *new])

    def _calc_indices(self, index: int) -> NDArray[np.int64]:
        return self.indices[index * self.batch_size : (index + 1) * self.batch_size]

    def _data_generation(self, indices: NDArray[np.int64]) -> Any:
        if self.samples is None:
            raise ValueError("Samples have not been initialized: call init_samples()")
        x = self.samples[indices]
        if self.need_targets:
            return x, self.targets[indices]
        return (x, x) if self.autoencoding else x
