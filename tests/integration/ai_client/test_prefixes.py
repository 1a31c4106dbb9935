from __future__ import annotations

import numpy as np
import pytest
from ai_database import Database

from taskensemble.ai import Client, ConfigOptions, Dataset
from taskensemble.ai.error import RedisReplyError


def member(monkeypatch: pytest.MonkeyPatch, database: Database, own: str, sources: str, suffix: str = "") -> Client:
    for name in ("SSDB", "SSKEYIN", "SSKEYOUT", "SR_DB_TYPE"):
        monkeypatch.delenv(name, raising=False)
    end = f"_{suffix}" if suffix else ""
    monkeypatch.setenv(f"SSDB{end}", database.address)
    monkeypatch.setenv(f"SR_DB_TYPE{end}", "Standalone")
    monkeypatch.setenv(f"SSKEYIN{end}", sources)
    monkeypatch.setenv(f"SSKEYOUT{end}", own)
    return Client(ConfigOptions.create_from_environment(suffix))


@pytest.fixture
def producer(monkeypatch: pytest.MonkeyPatch, database: Database) -> Client:
    client = member(monkeypatch, database, "p", "p")
    client.flush_db([database.address])
    return client


def test_two_members_with_the_same_names_keep_their_data_apart(
    monkeypatch: pytest.MonkeyPatch, database: Database, producer: Client
) -> None:
    other = member(monkeypatch, database, "q", "q")
    producer.put_tensor("t", np.zeros(1))
    other.put_tensor("t", np.ones(1))
    assert producer.get_tensor("t")[0] == 0
    assert other.get_tensor("t")[0] == 1
    consumer = member(monkeypatch, database, "c", "p,q")
    assert consumer.get_tensor("t")[0] == 0
    consumer.set_data_source("q")
    assert consumer.get_tensor("t")[0] == 1
    with pytest.raises(RedisReplyError, match="data source r"):
        consumer.set_data_source("r")


def test_keys_are_those_of_smartredis(database: Database, producer: Client) -> None:
    dataset = Dataset("d")
    dataset.add_tensor("x", np.zeros(1))
    producer.put_tensor("t", np.zeros(1))
    producer.put_dataset(dataset)
    producer.append_to_list("L", dataset)
    for key in ("p.t", "p.{d}.meta", "p.{d}.x", "p.L"):
        assert producer.key_exists(key), key
    assert database.call("LRANGE", "p.L", 0, -1) == [b"p.{d}"]
    assert [d.get_name() for d in producer.get_datasets_from_list("L")] == ["d"]
    producer.rename_dataset("d", "e")
    producer.rename_tensor("t", "u")
    producer.copy_list("L", "M")
    for key in ("p.u", "p.{e}.meta", "p.M"):
        assert producer.key_exists(key), key


def test_prefixes_can_be_turned_off(producer: Client) -> None:
    producer.use_tensor_ensemble_prefix(False)
    producer.use_dataset_ensemble_prefix(False)
    producer.use_list_ensemble_prefix(False)
    producer.put_tensor("t", np.zeros(1))
    producer.put_dataset(Dataset("d"))
    producer.append_to_list("L", Dataset("d"))
    for key in ("t", "{d}.meta", "L"):
        assert producer.key_exists(key), key
    with pytest.raises(TypeError):
        producer.use_tensor_ensemble_prefix(1)  # type: ignore[arg-type]


def test_a_named_database_has_variables_of_its_own(monkeypatch: pytest.MonkeyPatch, database: Database) -> None:
    client = member(monkeypatch, database, "own", "own", suffix="ocean")
    client.put_tensor("t", np.zeros(1))
    assert client.key_exists("own.t")


def test_what_is_read_before_it_is_written_elsewhere_needs_no_prefix(
    monkeypatch: pytest.MonkeyPatch, database: Database
) -> None:
    client = member(monkeypatch, database, "", "")
    client.put_tensor("plain", np.zeros(1))
    assert client.key_exists("plain")
    assert client.get_tensor("plain").size == 1
