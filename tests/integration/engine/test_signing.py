"""With a signing key, who can write to the broker and the record store still cannot make a worker run anything."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from taskensemble.engine import messages, signing
from taskensemble.engine.records import OutputsRecord, State, TransferFileRecord
from taskensemble.engine.store import run_key
from tests.integration.engine import runs
from tests.integration.engine.plane import Plane, until


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "keys"
    path.write_text("k1:" + "5a" * 32 + "\n")
    path.chmod(0o600)
    monkeypatch.setenv(signing.VARIABLE, str(path))
    return path


def test_a_signed_run_completes_and_its_members_do_not_see_the_key(plane: Plane, key: Path, tmp_path: Path) -> None:
    plane.worker("--slots", "2")
    run, members = runs.one_entity(tmp_path, ["/usr/bin/env"], 3)
    plane.start(run, members)
    assert plane.finish(run.run_id).completed == 3
    assert signing.VARIABLE not in (tmp_path / "plate" / "plate_0" / "plate_0.out").read_text()


def test_an_unsigned_run_is_refused_as_a_whole(plane: Plane, key: Path, tmp_path: Path) -> None:
    plane.worker("--slots", "1")
    run, members = runs.one_entity(tmp_path, ["/usr/bin/touch", str(tmp_path / "ran")])
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(signing.VARIABLE)
        plane.start(run, members)
    until(lambda: "not signed" in plane.log("w0"), "the log says that the message was refused")
    # The reaper, which has the key, asks for the setup once more; the run's record is not signed by that.
    status = plane.finish(run.run_id)
    assert status.state is State.FAILED
    assert signing.VARIABLE in status.reason
    assert not (tmp_path / "ran").exists()


def test_altered_messages_and_records_run_nothing(plane: Plane, key: Path, tmp_path: Path) -> None:
    run, members = runs.one_entity(
        tmp_path, ["/usr/bin/touch"], 2, args=[[str(tmp_path / "good")], [str(tmp_path / "other")]]
    )
    plane.start(run, members)
    members_key = run_key(run.run_id)[:-3] + "members"
    client = plane.store._redis
    altered = client.hget(members_key, "1").decode().replace(str(tmp_path / "other"), str(tmp_path / "evil"))
    client.hset(members_key, "1", altered)
    forged = messages.member_message(run, 0, 0, 0, name="plate_0")
    forged["headers"]["task"] = messages.COMPLETION
    client.lpush(messages.SERVICE_QUEUE, json.dumps(forged))
    plane.worker("--slots", "1")
    status = plane.finish(run.run_id)
    assert (status.completed, status.failed) == (1, 1)
    assert "changed after it was signed" in plane.store.attempts(run.run_id, [1])[0].reason
    assert (tmp_path / "good").exists()
    assert not (tmp_path / "evil").exists()
    until(lambda: "does not fit" in plane.log("w0"), "the forged completion was refused")


def test_a_member_in_the_place_of_another_and_an_altered_run_run_nothing(
    plane: Plane, key: Path, tmp_path: Path
) -> None:
    run, members = runs.one_entity(tmp_path, ["/usr/bin/touch"], 2, args=[[str(tmp_path / "a")], [str(tmp_path / "b")]])
    plane.store.write_run(run, members)
    members_key = run_key(run.run_id)[:-3] + "members"
    client = plane.store._redis
    client.hset(members_key, "1", client.hget(members_key, "0"))
    messages.publish_setup(plane.broker_url, run)
    changed, others = runs.one_entity(tmp_path, ["/usr/bin/touch", str(tmp_path / "evil")])
    plane.store.write_run(changed, others)
    record = client.hget(run_key(changed.run_id), "record").decode().replace("/usr/bin/touch", "/usr/bin/mkdir")
    client.hset(run_key(changed.run_id), "record", record)
    messages.publish_setup(plane.broker_url, changed)
    plane.worker("--slots", "1")
    until(lambda: plane.store.status(run.run_id).completed == 1, "the first member ran")
    publisher = messages.Publisher(plane.broker_url)
    publisher.publish([messages.member_message(run, 1, 0, 0, name="plate_1")])
    publisher.close()
    assert plane.finish(run.run_id).failed == 1
    assert plane.finish(changed.run_id).state is State.FAILED
    assert (tmp_path / "a").exists()
    assert not (tmp_path / "b").exists()
    assert not (tmp_path / "evil").exists()


def test_signed_messages_that_are_sent_again_run_nothing_again(plane: Plane, key: Path, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    run, members = runs.one_entity(tmp_path, ["/bin/sh", "-c", f"echo ran >> {journal}"], 2)
    plane.worker("--slots", "2")
    plane.start(run, members)
    plane.finish(run.run_id)
    until(lambda: not plane.store.active_runs(), "its queues are gone")
    publisher = messages.Publisher(plane.broker_url)
    queues = messages.run_queues(run)
    plane.store.add_queues(queues)
    for _ in range(3):
        publisher.publish([messages.setup_message(run)])
        publisher.publish(messages.member_message(run, m.index, 0, 0, name=m.name) for m in members)
    until(lambda: plane.log("w0").count("refused: done") >= 6, "all of them were answered")
    publisher.close()
    assert journal.read_text().split() == ["ran", "ran"]


def test_what_an_attempt_has_sent_to_the_next_one_is_signed_too(plane: Plane, key: Path, tmp_path: Path) -> None:
    """It lands in the next attempt's folder, beside the files that the program reads, or is itself started from there."""
    run, members = runs.one_entity(tmp_path, ["/bin/true"], 2)
    plane.store.write_run(run, members)
    entry = TransferFileRecord(path="run.sh", size=1, digest="0" * 64, mode=0o755)
    sent = OutputsRecord(attempt=1, content="0.1", entries=(entry,))
    plane.store.put_outputs(run.run_id, 0, sent, 60)
    assert plane.store.outputs(run.run_id, 0)[0].entries == (entry,)
    name, client = run_key(run.run_id)[:-3] + "outputs", plane.store._redis
    signed = client.hget(name, "0").decode()
    altered = {
        0: (signed.replace("0" * 64, "1" * 64), "changed after it was signed"),
        1: (signed, "content '0.1'"),
    }
    for index, (text, words) in altered.items():
        client.hset(name, str(index), text)
        with pytest.raises(signing.SignatureError, match=rf"member {index} .*{words}"):
            plane.store.outputs(run.run_id, index)
    client.hset(name, "0", sent.model_dump_json(exclude_defaults=True))
    with pytest.raises(signing.SignatureError, match="not signed"):
        plane.store.outputs(run.run_id, 0)
    # The forged one does not keep the attempt's own out.
    plane.store.put_outputs(run.run_id, 0, sent, 60)
    assert plane.store.outputs(run.run_id, 0)[0].attempt == 1
