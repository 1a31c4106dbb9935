"""Where the bytes of transferred files are kept: the control plane's record store, or what fsspec opens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from taskensemble.engine.records import RunRecord
from taskensemble.errors import TransferError, UnsupportedError

if TYPE_CHECKING:
    from taskensemble.engine.store import Store


class Contents(Protocol):
    """Bytes by name, of one run."""

    def put(self, name: str, data: bytes) -> None: ...
    def get(self, name: str) -> bytes | None: ...
    def drop(self, name: str) -> None: ...

    def put_inputs(self, contents: Mapping[str, bytes]) -> Mapping[str, bytes]:
        """Keep what members read, by SHA-256; returns what is to be written with the run's record instead."""
        ...

    def input(self, digest: str) -> bytes | None: ...

    def drop_inputs(self) -> None:
        """The run has completed: nobody reads its inputs again."""
        ...


class _InStore:
    def __init__(self, store: Store, run: RunRecord) -> None:
        self._store = store
        self._run = run

    def put(self, name: str, data: bytes) -> None:
        self._store.put_content(self._run.run_id, name, data, self._run.keep)

    def get(self, name: str) -> bytes | None:
        return self._store.content(self._run.run_id, name)

    def drop(self, name: str) -> None:
        self._store.drop_content(self._run.run_id, name)

    def put_inputs(self, contents: Mapping[str, bytes]) -> Mapping[str, bytes]:
        return contents

    def input(self, digest: str) -> bytes | None:
        return self._store.asset(self._run.run_id, digest)

    def drop_inputs(self) -> None:
        # The store has let go of them with the run's ML assets.
        return


class _Elsewhere:
    """A folder for the run in a file system of fsspec."""

    def __init__(self, url: str, run_id: str) -> None:
        filesystem, path = opened(url)
        self._filesystem = filesystem
        self._folder = f"{path.rstrip('/')}/{run_id}"

    def put(self, name: str, data: bytes) -> None:
        with _named(self._folder):
            self._filesystem.makedirs(self._folder, exist_ok=True)
            self._filesystem.pipe_file(f"{self._folder}/{name}", data)

    def get(self, name: str) -> bytes | None:
        with _named(self._folder):
            try:
                return bytes(self._filesystem.cat_file(f"{self._folder}/{name}"))
            except FileNotFoundError:
                return None

    def drop(self, name: str) -> None:
        with _named(self._folder):
            try:
                self._filesystem.rm_file(f"{self._folder}/{name}")
            except FileNotFoundError:
                return

    def put_inputs(self, contents: Mapping[str, bytes]) -> Mapping[str, bytes]:
        for digest, data in contents.items():
            self.put(digest, data)
        return {}

    def input(self, digest: str) -> bytes | None:
        return self.get(digest)

    def drop_inputs(self) -> None:
        with _named(self._folder):
            try:
                self._filesystem.rm(self._folder, recursive=True)
            except FileNotFoundError:
                return


class _named:
    """Turns what a file system raises into an error that names the folder: each library has exceptions of its own."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Exception) and not isinstance(error, TransferError):
            raise TransferError(f"transfer_store: {self._folder} cannot be used: {error}") from error


def contents_of(store: Store, run: RunRecord) -> Contents:
    """Where the bytes of a run's files are.

    Raises:
        UnsupportedError: the run's own store needs a package that is not installed here.
        TransferError: it cannot be opened.
    """
    assert run.transfer is not None
    return _Elsewhere(run.transfer.url, run.run_id) if run.transfer.url else _InStore(store, run)


def opened(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it.

    Raises:
        UnsupportedError: a package is missing.
        TransferError: the URL cannot be opened.
    """
    try:
        import fsspec
    except ImportError:
        raise UnsupportedError(
            f"transfer_store={url!r} needs fsspec: pip install 'taskensemble[fsspec]', with the package of your store "
            "(s3fs, gcsfs, adlfs, …), for the driver and every worker"
        ) from None
    try:
        filesystem, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise UnsupportedError(f"transfer_store={url!r} needs another package: {error}") from error
    except Exception as error:
        raise TransferError(f"transfer_store={url!r} cannot be opened: {error}") from error
    return filesystem, str(path)
