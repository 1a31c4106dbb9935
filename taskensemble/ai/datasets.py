"""The client's calls on datasets and on aggregation lists of them."""

from __future__ import annotations

from collections.abc import Callable

from .arguments import check_named, check_type
from .dataset import COMPLETE, Dataset, stored_tensor_names
from .error import RedisKeyError, RedisRuntimeError
from .session import reported
from .tensors import TensorCalls, tensor_get, tensor_of, tensor_set
from .topology import Command

Fields = dict[bytes, bytes]


class DatasetCalls(TensorCalls):
    """Datasets by name, and lists whose items refer to datasets."""

    @reported
    def put_dataset(self, dataset: Dataset) -> None:
        """Store a dataset with its tensors and metadata; one of the same name is replaced."""
        check_type(dataset, "dataset", Dataset)
        self._store(self._write_key("dataset", dataset.get_name()), dataset)

    @reported
    def get_dataset(self, name: str) -> Dataset:
        """Fetch a dataset of the data source.

        Raises:
            RedisKeyError: there is none of that name.
        """
        check_type(name, "name", str)
        return self._fetch([self._read_key("dataset", name)])[0]

    @reported
    def delete_dataset(self, name: str) -> None:
        """Delete a dataset of the data source.

        Raises:
            RedisRuntimeError: there is none of that name.
        """
        check_type(name, "name", str)
        key = self._read_key("dataset", name)
        fields = self._fields([key])[0]
        if not fields:
            raise RedisRuntimeError(f"The requested DataSet {name} does not exist.")
        self._remove(key, fields)

    @reported
    def copy_dataset(self, src_name: str, dest_name: str) -> None:
        """Copy a dataset of the data source to a name of one's own.

        Raises:
            RedisKeyError: there is no such dataset.
        """
        check_type(src_name, "src_name", str)
        check_type(dest_name, "dest_name", str)
        dataset = self._fetch([self._read_key("dataset", src_name)])[0]
        self._store(self._write_key("dataset", dest_name), dataset)

    @reported
    def rename_dataset(self, old_name: str, new_name: str) -> None:
        """Move a dataset of the data source to a name of one's own.

        Raises:
            RedisKeyError: there is no such dataset.
        """
        check_type(old_name, "old_name", str)
        check_type(new_name, "new_name", str)
        old, new = self._read_key("dataset", old_name), self._write_key("dataset", new_name)
        dataset = self._fetch([old])[0]
        if old == new:
            return
        self._store(new, dataset)
        self._remove(old, self._fields([old])[0])

    @reported
    def dataset_exists(self, name: str) -> bool:
        """Whether the data source has a complete dataset of that name."""
        check_type(name, "name", str)
        return self._complete(self._read_key("dataset", name))

    @reported
    def poll_dataset(self, name: str, poll_frequency_ms: int, num_tries: int) -> bool:
        """Wait until the data source has a complete dataset of that name; as `poll_tensor`."""
        check_type(name, "name", str)
        key = self._read_key("dataset", name)
        return self._wait_for(lambda: self._complete(key), poll_frequency_ms, num_tries)

    @reported
    def append_to_list(self, list_name: str, dataset: Dataset) -> None:
        """Append a reference to a dataset, which must be stored as well, to an aggregation list."""
        check_type(list_name, "list_name", str)
        check_type(dataset, "dataset", Dataset)
        key = self._write_key("list", list_name)
        self._call(key, b"RPUSH", key, self._write_key("dataset", dataset.get_name()), repeatable=False)

    @reported
    def delete_list(self, list_name: str) -> None:
        """Delete an aggregation list of the data source, not its datasets; that there is none is no error."""
        check_type(list_name, "list_name", str)
        key = self._read_key("list", list_name)
        self._call(key, b"DEL", key)

    @reported
    def copy_list(self, src_name: str, dest_name: str) -> None:
        """Copy an aggregation list of the data source to a name of one's own; its datasets are not copied.

        Raises:
            RedisRuntimeError: there is no such list.
            ValueError: an empty name.
        """
        check_named(src_name, "src_name")
        check_named(dest_name, "dest_name")
        self._copy_list(self._read_key("list", src_name), self._write_key("list", dest_name))

    @reported
    def rename_list(self, src_name: str, dest_name: str) -> None:
        """Move an aggregation list of the data source to a name of one's own.

        Raises:
            RedisRuntimeError: there is no such list.
            ValueError: an empty name.
        """
        check_named(src_name, "src_name")
        check_named(dest_name, "dest_name")
        source, target = self._read_key("list", src_name), self._write_key("list", dest_name)
        self._copy_list(source, target)
        if source != target:
            self._call(source, b"DEL", source)

    def _copy_list(self, source: bytes, target: bytes) -> None:
        items = self._call(source, b"LRANGE", source, 0, -1)
        if not items:
            raise RedisRuntimeError(f"The source aggregation list {source.decode()} does not exist.")
        if source != target:
            self._calls(
                [Command(target, (b"DEL", target)), Command(target, (b"RPUSH", target, *items), repeatable=False)]
            )

    @reported
    def get_list_length(self, list_name: str) -> int:
        """How many datasets an aggregation list of the data source refers to; 0 if there is no such list."""
        check_type(list_name, "list_name", str)
        return self._list_length(list_name)

    @reported
    def poll_list_length(self, name: str, list_length: int, poll_frequency_ms: int, num_tries: int) -> bool:
        """Wait until an aggregation list has exactly that many entries; as `poll_tensor`."""
        return self._poll_length(name, list_length, poll_frequency_ms, num_tries, lambda length: length == list_length)

    @reported
    def poll_list_length_gte(self, name: str, list_length: int, poll_frequency_ms: int, num_tries: int) -> bool:
        """Wait until an aggregation list has at least that many entries; as `poll_tensor`."""
        return self._poll_length(name, list_length, poll_frequency_ms, num_tries, lambda length: length >= list_length)

    @reported
    def poll_list_length_lte(self, name: str, list_length: int, poll_frequency_ms: int, num_tries: int) -> bool:
        """Wait until an aggregation list has at most that many entries; as `poll_tensor`."""
        return self._poll_length(name, list_length, poll_frequency_ms, num_tries, lambda length: length <= list_length)

    def _poll_length(
        self, name: str, list_length: int, poll_frequency_ms: int, num_tries: int, enough: Callable[[int], bool]
    ) -> bool:
        check_type(name, "name", str)
        check_type(list_length, "list_length", int)
        if list_length < 0:
            raise ValueError(f"list_length must not be negative, and is {list_length}.")
        return self._wait_for(lambda: enough(self._list_length(name)), poll_frequency_ms, num_tries)

    def _list_length(self, name: str) -> int:
        key = self._read_key("list", name)
        return int(self._call(key, b"LLEN", key))

    @reported
    def get_datasets_from_list(self, list_name: str) -> list[Dataset]:
        """Fetch all datasets of an aggregation list of the data source; none if there is no such list.

        Raises:
            RedisKeyError: one of its datasets does not exist.
            ValueError: an empty name.
        """
        check_named(list_name, "list_name")
        return self._listed(list_name, 0, -1)

    @reported
    def get_dataset_list_range(self, list_name: str, start_index: int, end_index: int) -> list[Dataset]:
        """Fetch the datasets from one position of an aggregation list to another, both inclusive.

        Arguments:
            start_index: from 0; negative ones count from the end, -1 is the last.
            end_index: likewise; beyond the end means the end.
        """
        check_named(list_name, "list_name")
        check_type(start_index, "start_index", int)
        check_type(end_index, "end_index", int)
        return self._listed(list_name, start_index, end_index)

    def _listed(self, list_name: str, start: int, end: int) -> list[Dataset]:
        key = self._read_key("list", list_name)
        return self._fetch(self._call(key, b"LRANGE", key, start, end))

    def _complete(self, key: bytes) -> bool:
        meta = key + b".meta"
        return bool(self._call(meta, b"HEXISTS", meta, COMPLETE))

    def _store(self, key: bytes, dataset: Dataset) -> None:
        meta = key + b".meta"
        fields = dataset.encoded_metadata()
        commands = [Command(meta, (b"DEL", meta))]
        if fields:
            commands.append(Command(meta, (b"HSET", meta, *(part for field in fields.items() for part in field))))
        commands += [tensor_set(key + b"." + name.encode(), tensor) for name, tensor in dataset.tensors().items()]
        self._calls(commands)
        self._call(meta, b"HSET", meta, COMPLETE, b"1")

    def _fields(self, keys: list[bytes]) -> list[Fields]:
        metas = [key + b".meta" for key in keys]
        replies = self._calls([Command(meta, (b"HGETALL", meta)) for meta in metas])
        return [dict(zip(map(bytes, reply[::2]), map(bytes, reply[1::2]), strict=True)) for reply in replies]

    def _fetch(self, keys: list[bytes]) -> list[Dataset]:
        """Fetch datasets by their keys: two round trips however many there are."""
        all_fields = self._fields(keys)
        for key, fields in zip(keys, all_fields, strict=True):
            if not fields:
                raise RedisKeyError(f'The requested DataSet, "{_plain_name(key)}", does not exist.')
        tensor_names = [stored_tensor_names(fields) for fields in all_fields]
        replies = iter(
            self._calls(
                [
                    tensor_get(key + b"." + name.encode())
                    for key, names in zip(keys, tensor_names, strict=True)
                    for name in names
                ]
            )
        )
        return [
            Dataset.from_stored(_plain_name(key), fields, {name: tensor_of(next(replies)) for name in names})
            for key, fields, names in zip(keys, all_fields, tensor_names, strict=True)
        ]

    def _remove(self, key: bytes, fields: Fields) -> None:
        meta = key + b".meta"
        self._call(meta, b"UNLINK", meta, *(key + b"." + name.encode() for name in stored_tensor_names(fields)))


def _plain_name(key: bytes) -> str:
    """The dataset's name in a key like `prefix.{name}`."""
    return key[key.index(b"{") + 1 : key.rindex(b"}")].decode()
