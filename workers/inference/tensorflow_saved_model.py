"""SavedModels as one blob: a tar or zip archive, unpacked into a folder of its own, checked, loaded and removed.

A SavedModel always holds operators that write and read checkpoints, in functions for its saver; they are accepted as long as
nothing that loading or running calls can reach them.
"""

from __future__ import annotations

import io
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from tensorflow.core.protobuf import saved_model_pb2

from .backend import BackendError
from .tensorflow_graph import check_functions, check_nodes, library_of, reduced

_GRAPH = "saved_model.pb"
_VARIABLES = "variables"
_LARGEST = 64 * 2**30
"""Most bytes that an archive may unpack to."""
SIGNATURE = "serving_default"


def is_archive(blob: bytes) -> bool:
    """Whether the bytes are a zip or tar archive: a GraphDef is neither."""
    return zipfile.is_zipfile(io.BytesIO(blob)) or tarfile.is_tarfile(io.BytesIO(blob))


def unpack(blob: bytes, folder: Path) -> None:
    """Write the archive's graph and variables into a folder; anything else in it is left out.

    Raises:
        BackendError: a path leads out of the archive, a member is no regular file, or it holds no SavedModel.
    """
    try:
        members = dict(_members(blob, read=False))
        roots = sorted((path.parent for path in members if path.name == _GRAPH), key=lambda path: len(path.parts))
        if not roots:
            raise BackendError("Invalid GraphDef")  # such as a TorchScript archive
        root = roots[0]
        (folder / _VARIABLES).mkdir()
        for path, content in _members(blob, read=True):
            if path == root / _GRAPH or path.parent == root / _VARIABLES:
                with (folder / path.relative_to(root)).open("wb") as target:
                    shutil.copyfileobj(content, target)
    except (tarfile.TarError, zipfile.BadZipFile, OSError, EOFError) as error:
        raise BackendError(f"broken archive: {error}") from error


def _members(blob: bytes, *, read: bool) -> Iterator[tuple[PurePosixPath, Any]]:
    """Paths and open files of an archive's members, each path checked."""
    buffer = io.BytesIO(blob)
    total = 0
    if zipfile.is_zipfile(buffer):
        with zipfile.ZipFile(buffer) as packed:
            for info in packed.infolist():
                path = _safe(info.filename)
                if (info.external_attr >> 16) & 0o170000 == 0o120000:
                    raise BackendError(f"refused: {info.filename!r} in the archive is a link")
                total += info.file_size
                _check_size(total)
                if not info.is_dir():
                    yield path, packed.open(info) if read else None
        return
    buffer.seek(0)
    with tarfile.open(fileobj=buffer) as packed_tar:
        for member in packed_tar:
            path = _safe(member.name)
            if not (member.isfile() or member.isdir()):
                raise BackendError(f"refused: {member.name!r} in the archive is no regular file")
            total += member.size
            _check_size(total)
            if member.isfile():
                yield path, packed_tar.extractfile(member) if read else None


def _safe(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        raise BackendError(f"refused: the path {name!r} leads out of the archive")
    return path


def _check_size(total: int) -> None:
    if total > _LARGEST:
        raise BackendError(f"refused: the archive unpacks to more than {_LARGEST} bytes")


def check(folder: Path) -> Any:
    """Read an unpacked SavedModel's description and refuse it when loading or running it would reach beyond tensors.

    Returns:
        The SignatureDef to serve.
    Raises:
        BackendError: it is broken or forbidden, of TensorFlow 1, or has no signature.
    """
    description = saved_model_pb2.SavedModel()
    try:
        description.ParseFromString((folder / _GRAPH).read_bytes())
    except Exception as error:
        raise BackendError(f"broken {_GRAPH}: {error}") from error
    if len(description.meta_graphs) != 1:
        raise BackendError(f"a SavedModel with one graph was expected, this one has {len(description.meta_graphs)}")
    graph = description.meta_graphs[0]
    objects = graph.object_graph_def
    if not objects.nodes:
        raise BackendError("SavedModels of TensorFlow 1 are not supported: store a frozen graph")
    library = library_of(graph.graph_def)
    called = [*objects.concrete_functions]
    for node in objects.nodes:
        if node.HasField("bare_concrete_function"):
            called.append(node.bare_concrete_function.concrete_function_name)
        called += node.function.concrete_functions
    check_functions(called, library)
    signatures = {name: value for name, value in graph.signature_def.items() if not name.startswith("__")}
    served = signatures.get(SIGNATURE) or next(iter(signatures.values()), None)
    if served is None:
        raise BackendError("the SavedModel has no signature: save it with signatures=")
    for signature in signatures.values():
        outputs = [output.name for output in signature.outputs.values()]
        check_nodes(reduced(graph.graph_def, outputs).node, library)
    return served
