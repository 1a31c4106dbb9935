"""Members of an ensemble that use smartredis, unchanged: kept apart by prefixes, on the unnamed and on a named database."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from taskensemble import Experiment, Status
from taskensemble.ai import Client

PRODUCER = """
import sys
import numpy as np
from smartredis import Client, ConfigOptions, Dataset
options = ConfigOptions.create_from_environment(sys.argv[1]) if sys.argv[1] else None
client = Client(options, logger_name="p") if options else Client(address=None, cluster=False)
mine = float(sys.argv[2])
client.put_tensor("answer", np.array([mine]))
assert client.get_tensor("answer")[0] == mine
data = Dataset("set")
data.add_tensor("t", np.array([mine, mine]))
client.put_dataset(data)
client.append_to_list("sets", data)
assert client.tensor_exists("answer") and client.dataset_exists("set")
"""
CONSUMER = """
import json, os, sys
from smartredis import Client, ConfigOptions
name = sys.argv[1]
options = ConfigOptions.create_from_environment(name) if name else None
client = Client(options, logger_name="c") if options else Client(address=None, cluster=False)
sources = os.environ["SSKEYIN" + ("_" + name if name else "")].split(",")
found = {}
for source in sources:
    client.set_data_source(source)
    found[source] = [float(client.get_tensor("answer")[0]), client.get_dataset("set").get_tensor("t").tolist()]
json.dump(found, open("result.json", "w"))
"""


@pytest.mark.parametrize("identifier", ["", "fields"])
def test_two_members_with_the_same_names_keep_their_data_apart(
    identifier: str, smartredis: Any, tmp_path: Path
) -> None:
    for name, text in (("producer.py", PRODUCER), ("consumer.py", CONSUMER)):
        (tmp_path / name).write_text(text)
    with Experiment("apart", tmp_path, slots=2) as exp:
        database = exp.create_database(port=0, db_identifier=identifier or "orchestrator")

        def program(name: str) -> Any:
            return exp.create_run_settings(
                str(smartredis.python), [str(tmp_path / name), identifier], env_vars={"PYTHONPATH": ""}
            )

        producers = exp.create_ensemble(
            "producer", params_as_args={"seed": [3, 7]}, params="seed", run_settings=program("producer.py")
        )
        for member in producers:
            # The program takes the bare value.
            member.run_settings.exe_args[-1] = member.params["seed"]
        consumer = exp.create_model("consumer", program("consumer.py"), depends_on=producers)
        consumer.register_incoming_entity(producers)
        exp.start(database, producers, consumer, quiet=True)
        errors = [path.read_text() for path in tmp_path.rglob("*.err")]
        assert exp.get_status(consumer, producers) == [Status.COMPLETED] * 3, errors
        assert json.loads((Path(consumer.path) / "result.json").read_text()) == {
            "producer_0": [3.0, [3.0, 3.0]],
            "producer_1": [7.0, [7.0, 7.0]],
        }
        client = Client(False, address=database.get_address()[0])
        assert [client.get_tensor(f"producer_{number}.answer").tolist() for number in (0, 1)] == [[3.0], [7.0]]
        assert not client.tensor_exists("answer")
        assert client.get_list_length("producer_0.sets") == 1
