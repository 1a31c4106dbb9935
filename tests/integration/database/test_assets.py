"""ML assets onto running databases: on every device and shard, each verified, or an error with the database's own words."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from taskensemble.ai import Client
from taskensemble.database import DatabaseOptions, load_assets, start_database, stop_database
from taskensemble.database.assets import copies
from taskensemble.engine.records import AssetRecord, DatabaseAddressRecord
from taskensemble.errors import AssetError

torch = pytest.importorskip("torch")

SCRIPT = b"def twice(x):\n    return x * 2\n"


def linear() -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2).eval()), buffer)
    return buffer.getvalue()


class Assets:
    def __init__(self) -> None:
        self.bytes: dict[str, bytes] = {}

    def record(self, name: str, content: bytes, kind: str = "model", **fields: Any) -> AssetRecord:
        digest = hashlib.sha256(content).hexdigest()
        self.bytes[digest] = content
        return AssetRecord(name=name, kind=kind, digest=digest, size=len(content), **fields)  # type: ignore[arg-type]

    def content(self, asset: AssetRecord) -> bytes:
        return self.bytes[asset.digest]


@pytest.fixture
def assets() -> Assets:
    return Assets()


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DatabaseAddressRecord]:
    record = start_database(DatabaseOptions(name="db", folder=tmp_path_factory.mktemp("db"), identifier="plate"))
    yield record
    stop_database(record)


def ask(record: DatabaseAddressRecord, *words: Any) -> Any:
    host, _, port = record.addresses[0].rpartition(":")
    with redis.Redis(host=host, port=int(port), socket_timeout=60) as client:
        return client.execute_command(*words)  # type: ignore[no-untyped-call]


def test_models_and_scripts_are_there_with_everything_they_were_given(
    database: DatabaseAddressRecord, assets: Assets
) -> None:
    blob = linear()
    model = assets.record("net", blob, tag="v1", batch_size=8, min_batch_size=2, min_batch_timeout=5)
    load_assets(database, [model, assets.record("prep", SCRIPT, "script", tag="v2")], assets.content)
    reply = ask(database, "AI.MODELGET", "net", "META", "BLOB")
    stored = dict(zip(reply[::2], reply[1::2], strict=True))
    assert stored[b"blob"] == blob
    assert (stored[b"tag"], stored[b"batchsize"], stored[b"minbatchsize"]) == (b"v1", 8, 2)
    assert stored[b"minbatchtimeout"] == 5
    reply = ask(database, "AI.SCRIPTGET", "prep", "META", "SOURCE")
    assert dict(zip(reply[::2], reply[1::2], strict=True))[b"source"] == SCRIPT


@pytest.mark.parametrize(
    ("fields", "content", "text"),
    [
        ({}, b"junk", r"TORCH model 'bad' on CPU was refused by the database plate: .*archive"),
        ({"device": "GPU"}, None, "GPU requested but Torch couldn't find CUDA"),
        ({"backend": "TF", "inputs": ("x",), "outputs": ("y",)}, b"junk", "TF model 'bad'"),
    ],
)
def test_a_refused_asset_is_an_error_in_the_databases_words(
    database: DatabaseAddressRecord, assets: Assets, fields: dict[str, Any], content: bytes | None, text: str
) -> None:
    bad = assets.record("bad", content if content is not None else linear(), **fields)
    with pytest.raises(AssetError, match=text):
        load_assets(database, [bad], assets.content)
    assert not ask(database, "EXISTS", "bad")


def test_a_script_that_does_not_compile_is_an_error(database: DatabaseAddressRecord, assets: Assets) -> None:
    with pytest.raises(AssetError, match=r"script 'bad' on CPU was refused"):
        load_assets(database, [assets.record("bad", b"def f(:\n", "script")], assets.content)


def test_a_database_that_is_gone_is_an_asset_error(assets: Assets, tmp_path: Path) -> None:
    record = start_database(DatabaseOptions(name="db", folder=tmp_path, supervise=False))
    stop_database(record)
    with pytest.raises(AssetError, match="refused"):
        load_assets(record, [assets.record("prep", SCRIPT, "script")], assets.content)


def test_several_devices_get_one_copy_each_under_the_names_clients_look_for(assets: Assets) -> None:
    asset = assets.record("net", b"", device="GPU", devices_per_node=2, first_device=1)
    assert copies(asset) == [(b"net", "GPU:1"), (b"net.GPU:1", "GPU:1"), (b"net.GPU:2", "GPU:2")]
    assert copies(asset, b"8M")[2] == (b"{8M}.net.GPU:2", "GPU:2")
    assert copies(assets.record("net", b"")) == [(b"net", "CPU")]
    assert copies(assets.record("net", b"", device="GPU", first_device=3)) == [(b"net", "GPU:3")]


def test_every_shard_of_a_cluster_gets_a_copy_that_clients_find(
    assets: Assets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np

    record = start_database(DatabaseOptions(name="db", folder=tmp_path, shards=3))
    try:
        load_assets(record, [assets.record("prep", SCRIPT, "script"), assets.record("net", linear())], assets.content)
        pids = set()
        for address in record.addresses:
            one = record.model_copy(update={"addresses": (address,)})
            assert len(ask(one, "KEYS", "*.net")) == 1
            (worker,) = ask(one, "AI._WORKER", "LIST")
            pids.add(dict(zip(worker[::2], worker[1::2], strict=True))[b"pid"])
        # One worker serves all shards.
        assert len(pids) == 1
        monkeypatch.setenv("SSDB", ",".join(record.addresses))
        monkeypatch.setenv("SR_DB_TYPE", "Clustered")
        client = Client()
        for index in range(10):
            client.put_tensor(f"x{index}", np.ones(2, np.float32))
            client.run_script("prep", "twice", [f"x{index}"], [f"y{index}"])
            assert client.get_tensor(f"y{index}").tolist() == [2, 2]
    finally:
        stop_database(record)
