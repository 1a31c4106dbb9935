"""What one client writes, the other reads: smartredis 0.6.1 and ours, in both directions, on one server and on a cluster."""

from __future__ import annotations

import textwrap

import numpy as np
import pytest
from ai_database import Database

from taskensemble.ai import Client, Dataset

SCALARS = ["float64", "float32", "int32", "int64", "uint32", "uint64"]
TENSORS = ["float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16"]

FILL = """
for i, name in enumerate(TENSORS):
    dataset.add_tensor("tensor_" + name, (np.arange(6).reshape(2, 3) + i).astype(name))
for name in SCALARS:
    dataset.add_meta_scalar("scalar_" + name, np.dtype(name).type(3))
    dataset.add_meta_scalar("scalar_" + name, np.dtype(name).type(5))
dataset.add_meta_scalar("python_int", 7)
dataset.add_meta_scalar("python_float", 7.5)
dataset.add_meta_string("strings", "first")
dataset.add_meta_string("strings", "zwölf, 12")
"""
VERIFY = """
assert sorted(dataset.get_tensor_names()) == sorted("tensor_" + name for name in TENSORS)
for i, name in enumerate(TENSORS):
    tensor = dataset.get_tensor("tensor_" + name)
    assert tensor.dtype == name, name
    assert np.array_equal(tensor, (np.arange(6).reshape(2, 3) + i).astype(name)), name
for name in SCALARS:
    values = dataset.get_meta_scalars("scalar_" + name)
    assert values.dtype == name and list(values) == [3, 5], name
assert list(dataset.get_meta_scalars("python_int")) == [7]
assert list(dataset.get_meta_scalars("python_float")) == [7.5]
assert dataset.get_meta_strings("strings") == ["first", "zwölf, 12"]
assert len(dataset.get_metadata_field_names()) == len(SCALARS) + 3
"""
HEAD = f"SCALARS = {SCALARS!r}\nTENSORS = {TENSORS!r}\nimport numpy as np\n"

MEMBER = """
import numpy as np
from smartredis import Client, Dataset

client = Client()
for step in range(3):
    field = np.full((4, 4), float(step))
    client.put_tensor(f"field_{step}", field)
    client.run_script("prep", "scale", [f"field_{step}"], [f"scaled_{step}"])
    assert client.get_tensor(f"scaled_{step}")[0, 0] == 2.0 * step
    record = Dataset(f"record_{step}")
    record.add_tensor("field", field)
    record.add_meta_scalar("step", step)
    client.put_dataset(record)
    client.append_to_list("records", record)
assert client.poll_list_length("records", 3, 10, 10)
print(len(client.get_datasets_from_list("records")))
"""


@pytest.fixture(params=["single", "cluster"])
def running(request: pytest.FixtureRequest) -> Database:
    made: Database = request.getfixturevalue("cluster" if request.param == "cluster" else "database")
    client = connected(made)
    client.flush_db(made.addresses)
    client.close()
    return made


def connected(database: Database) -> Client:
    return Client(len(database.addresses) > 1, address=database.address)


def environment(database: Database, own: str = "") -> dict[str, str]:
    kind = "Clustered" if len(database.addresses) > 1 else "Standalone"
    keys = {"SSKEYIN": own, "SSKEYOUT": own} if own else {}
    return {
        "SSDB": ",".join(database.addresses),
        "SR_DB_TYPE": kind,
        "SR_LOG_LEVEL": "QUIET",
        "SR_LOG_FILE": "/dev/null",
    } | keys


def run(official, code: str, variables: dict[str, str]) -> str:  # type: ignore[no-untyped-def]
    done = official.run("-c", textwrap.dedent(code), environment=variables)
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout)


@pytest.mark.parametrize("prefix", ["", "member_0"])
def test_smartredis_reads_our_dataset(running: Database, smartredis, prefix: str, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("SSKEYOUT", prefix)
    client = connected(running)
    dataset = Dataset("d")
    exec(HEAD + FILL, {"dataset": dataset})
    client.put_dataset(dataset)
    client.append_to_list("L", dataset)
    read = "from smartredis import Client\ndataset = Client().get_dataset('d')\n"
    run(smartredis, HEAD + read + VERIFY, environment(running, prefix))
    listed = (
        "from smartredis import Client, Dataset\nd, = Client().get_datasets_from_list('L')\n"
        "dataset = Dataset.from_pybind(d)\n"
    )
    run(smartredis, HEAD + listed + VERIFY, environment(running, prefix))


@pytest.mark.parametrize("prefix", ["", "member_0"])
def test_we_read_the_dataset_of_smartredis(running: Database, smartredis, prefix: str, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    write = "from smartredis import Client, Dataset\ndataset = Dataset('d')\n"
    store = "client = Client()\nclient.put_dataset(dataset)\nclient.append_to_list('L', dataset)\n"
    run(smartredis, HEAD + write + FILL + store, environment(running, prefix))
    monkeypatch.setenv("SSKEYIN", prefix)
    client = connected(running)
    exec(HEAD + VERIFY, {"dataset": client.get_dataset("d")})
    exec(HEAD + VERIFY, {"dataset": client.get_datasets_from_list("L")[0]})


def test_tensors_go_both_ways(running: Database, smartredis) -> None:  # type: ignore[no-untyped-def]
    client = connected(running)
    for name in TENSORS:
        client.put_tensor(f"ours_{name}", np.arange(6).reshape(2, 3).astype(name))
    code = f"""
        import numpy as np
        from smartredis import Client
        client = Client()
        for name in {TENSORS!r}:
            expected = np.arange(6).reshape(2, 3).astype(name)
            tensor = client.get_tensor("ours_" + name)
            assert tensor.dtype == name and np.array_equal(tensor, expected)
            client.put_tensor("theirs_" + name, expected)
        """
    run(smartredis, code, environment(running))
    for name in TENSORS:
        assert np.array_equal(client.get_tensor(f"theirs_{name}"), np.arange(6).reshape(2, 3).astype(name))


def test_each_runs_the_models_that_the_other_stored(running: Database, smartredis, models) -> None:  # type: ignore[no-untyped-def]
    client = connected(running)
    client.set_model_from_file("ours", str(models / "linear.pt"), "TORCH")
    client.set_script("ours_script", "def double(x):\n    return x * 2.0\n")
    code = f"""
        import numpy as np
        from smartredis import Client
        client = Client()
        client.set_model_from_file("theirs", {str(models / "linear.pt")!r}, "TORCH")
        for i in range(5):
            client.put_tensor(f"in{{i}}", np.ones((2, 3), np.float32))
            client.run_model("ours", [f"in{{i}}"], [f"out{{i}}"])
            assert np.allclose(client.get_tensor(f"out{{i}}"), 2.5)
            client.run_script("ours_script", "double", [f"out{{i}}"], [f"twice{{i}}"])
            assert np.allclose(client.get_tensor(f"twice{{i}}"), 5.0)
        """
    run(smartredis, code, environment(running))
    for i in range(5):
        client.run_model("theirs", [f"in{i}"], [f"again{i}"])
        assert np.allclose(client.get_tensor(f"again{i}"), 2.5)


def test_a_member_needs_no_change_but_its_import(running: Database, smartredis, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    connected(running).set_script("prep", "def scale(x):\n    return x * 2.0\n")
    assert run(smartredis, MEMBER, environment(running, "member_0")).strip() == "3"
    for name, value in environment(running, "member_1").items():
        monkeypatch.setenv(name, value)
    exec(MEMBER.replace("from smartredis import", "from taskensemble.ai import"), {})
    consumer = connected(running)
    assert consumer.get_list_length("records") == 3
    assert consumer.key_exists("member_0.{record_2}.meta")
    assert consumer.key_exists("member_1.{record_2}.meta")
