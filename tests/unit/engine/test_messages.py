"""Messages and addresses: pure functions."""

from __future__ import annotations

import base64
import json

import pytest

from taskensemble.engine import messages, urls
from taskensemble.engine.records import CommandRecord, EntityRecord, ResourcesRecord, RunRecord, TemplateRecord
from taskensemble.errors import InputError

RUN = RunRecord(
    run_id="plate-1",
    experiment='exp "é"',
    path="/tmp/exp",
    created=0.0,
    entities=(EntityRecord(index=0, name="plate", kind="Ensemble", path="/tmp/exp/plate", first=0, size=3),),
    templates=(
        TemplateRecord(command=CommandRecord(head=("/bin/true",))),
        TemplateRecord(
            command=CommandRecord(head=("/bin/true",)), resources=ResourcesRecord(cpus=4, gpus=0.5, tags=("big",))
        ),
    ),
)


@pytest.mark.parametrize("name", ["plate_0", "100 %d of it", 'quote " and \\ back', "é"])
@pytest.mark.parametrize("attempt", [1, 3])
def test_a_message_made_quickly_equals_one_made_plainly(name: str, attempt: int) -> None:
    quick = messages.MemberMessages(RUN)
    for template in (0, 1):
        made = json.loads(quick.text(2, 0, template, name=name, attempt=attempt))
        assert made == messages.member_message(RUN, 2, 0, template, name=name, attempt=attempt)
        assert json.loads(base64.b64decode(made["body"])) == [["plate-1", 2, 0], {}, {}]


def test_queues_are_one_for_each_resource_class_of_a_run() -> None:
    assert [queue.name for queue in messages.run_queues(RUN)] == ["te.run.plate-1.c1", "te.run.plate-1.c4.g0_5.t-big"]


def test_a_task_id_tells_run_and_member() -> None:
    assert messages.parse_task_id(messages.task_id("plate-1", 7)) == ("plate-1", 7)
    assert messages.parse_task_id(messages.task_id("plate-1", 7, 2)) == ("plate-1", 7)
    assert messages.parse_task_id("plate-1:setup") is None


@pytest.mark.parametrize(
    ("given", "redis", "celery"),
    [
        ("redis://:p@h:1/0", "redis://:p@h:1/0", "redis://:p@h:1/0"),
        ("valkey://h:1/2", "redis://h:1/2", "redis://h:1/2"),
        ("valkeys://h", "rediss://h", "rediss://h"),
        (
            "unix:///tmp/x?db=1&password=a%40b",
            "unix:///tmp/x?db=1&password=a%40b",
            "redis+socket://:a%40b@/tmp/x?virtual_host=1",
        ),
        ("redis+socket:///tmp/x?virtual_host=2", "unix:///tmp/x?db=2", "redis+socket:///tmp/x?virtual_host=2"),
    ],
)
def test_an_address_has_the_form_that_each_library_reads(given: str, redis: str, celery: str) -> None:
    assert urls.redis_url(given) == redis
    assert urls.celery_url(given) == celery


def test_a_store_on_rabbitmq_is_refused_with_the_way_out() -> None:
    with pytest.raises(InputError, match="TASKENSEMBLE_STORE_URL"):
        urls.redis_url("amqp://guest:hidden@h//")


def test_passwords_are_left_out_of_messages() -> None:
    for url in ("redis://:hidden@h:1/0", "unix:///tmp/x?password=hidden", "amqp://guest:hidden@h//"):
        assert "hidden" not in urls.without_password(url)
    for character in "/?#@:[]% ":
        for url in (
            f"redis://u:1{character}hidden@h:1/0",
            f"redis://:hidden{character}x@h",
            "redis://h?ssl_password=hidden",
        ):
            assert "hidden" not in urls.without_password(url)
    assert urls.without_password("no address") == "no address"
