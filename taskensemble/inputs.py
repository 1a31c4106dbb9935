"""What only the driver's machine can tell before a start: files that are there, tags that name parameters, assets' bytes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from taskensemble.entity import Asset, AttachedFiles, Ensemble, Entity, MLModel, Model
from taskensemble.entity.files import check_tag
from taskensemble.errors import InputError
from taskensemble.tags import check_file
from taskensemble.trees import walk

STORED = 64 * 1024**2
"""Bytes: a larger file is not put into the store; workers read it where it is, and check its hash."""
LARGEST = 512 * 1024**2
"""Bytes: what one value of a Redis-protocol store can hold."""


@dataclass(frozen=True)
class Content:
    """What an ML asset consists of.

    Attributes:
        digest: SHA-256 in hex.
        size: bytes.
        data: the bytes, to be put into the store; None: workers read them at `path`.
    """

    digest: str
    size: int
    data: bytes | None
    path: str | None


@dataclass(frozen=True)
class Inputs:
    """What was found out: the contents of the assets."""

    contents: Mapping[Asset, Content]


def read_inputs(
    entities: Iterable[Entity], *, tag: str | None = None, allow_unknown_tags: bool | None = None
) -> Inputs:
    """Check the files of `entities`, with each template's tags once, and read their assets.

    Args:
        tag: instead of the one that files were attached with.
        allow_unknown_tags: instead of what files were attached with.

    Raises:
        FileNotFoundError: a file is no longer there.
        ParameterWriterError: a tag names no parameter of a member.
        InputError, InputTypeError: a tag that is no mark; an asset that cannot be stored, or a TensorFlow model without the names
            of its nodes.
    """
    if tag is not None:
        check_tag(tag)
    contents: dict[Asset, Content] = {}
    checked: set[tuple[AttachedFiles, frozenset[str]]] = set()
    for entity in entities:
        for model, name_sets in distinct_models(entity):
            for asset in (*model.db_models, *model.db_scripts):
                if asset not in contents:
                    contents[asset] = _content(asset)
            if model.files is None:
                continue
            for names in name_sets:
                if (model.files, names) not in checked:
                    checked.add((model.files, names))
                    _check_files(model.files, names, tag, allow_unknown_tags)
    return Inputs(contents)


def distinct_models(entity: Entity) -> Iterator[tuple[Model, Iterable[frozenset[str]]]]:
    """The models of an entity that may differ, each with the names of its parameters: generated members only once."""
    if isinstance(entity, Model):
        yield entity, [frozenset(entity.params)]
    elif isinstance(entity, Ensemble):
        if any(isinstance(slot, int) for slot in entity.members.slots()):
            yield entity.prototype, entity.parameter_sets.name_sets()
        for model in entity.members.made():
            yield model, [frozenset(model.params)]


def _check_files(files: AttachedFiles, names: frozenset[str], tag: str | None, allow_unknown_tags: bool | None) -> None:
    for path in (*files.copy, *files.link, *files.tagged):
        if not os.path.exists(path):
            raise FileNotFoundError(f"{path} was attached and is no longer there")
    allowed = files.allow_unknown_tags if allow_unknown_tags is None else allow_unknown_tags
    for path in files.tagged:
        for file in _files_of(path):
            check_file(file, names, tag or files.tag, allowed)


def _files_of(path: str) -> Iterator[str]:
    if not os.path.isdir(path):
        yield path
        return
    for folder, _, names in walk(path):
        yield from (os.path.join(folder, name) for name in names)


def _content(asset: Asset) -> Content:
    if isinstance(asset, MLModel) and asset.backend == "TF" and not (asset.inputs and asset.outputs):
        raise InputError(
            f"ML model {asset.name!r}: a TF model needs the names of its nodes; give inputs=[...] and outputs=[...] "
            "(taskensemble.ml.tf.serialize_model returns them)"
        )
    data = asset.content
    if data is None:
        path = str(asset.file)
        if not os.path.isfile(path):
            raise FileNotFoundError(f"asset {asset.name!r}: {path} is no longer there")
        if os.path.getsize(path) > STORED:
            with open(path, "rb") as stream:
                return Content(hashlib.file_digest(stream, "sha256").hexdigest(), os.path.getsize(path), None, path)
        with open(path, "rb") as stream:
            data = stream.read()
    if not data:
        raise InputError(f"asset {asset.name!r} is empty: {asset.file or 'in memory'}")
    if len(data) > LARGEST:
        raise InputError(
            f"asset {asset.name!r} has {len(data)} bytes in memory, more than the {LARGEST} that the store can hold; write it to "
            "a file on a shared file system and give its path"
        )
    return Content(hashlib.sha256(data).hexdigest(), len(data), data, None)
