from __future__ import annotations

import pytest

from taskensemble.ai.resp import Address
from taskensemble.ai.topology import SLOTS, key_slot, shard_tag


@pytest.mark.parametrize(
    ("key", "slot"),
    [
        (b"123456789", 0x31C3),
        (b"foo", 12182),
        (b"a{foo}b", 12182),
        (b"a{}b", key_slot(b"a{}b")),
        (b"{foo", key_slot(b"{foo")),
    ],
)
def test_slots_are_the_clusters(key: bytes, slot: int) -> None:
    assert key_slot(key) == slot


# The tags that smartredis 0.6.1 used for shards that begin with these slots; the last four would hold a brace otherwise.
@pytest.mark.parametrize(
    ("slot", "tag"),
    [
        (0, b"\0\0"),
        (5461, b"8M"),
        (10922, b"p\x9a"),
        (9, b"\x01&\\"),
        (51, b"\x01m\xd8"),
        (75, b"\x01\x04Z"),
        (199, b"\x01\xebZ"),
    ],
)
def test_tags_are_those_of_smartredis(slot: int, tag: bytes) -> None:
    assert shard_tag(slot) == tag


def test_every_tag_hashes_to_its_slot() -> None:
    for slot in range(SLOTS):
        tag = shard_tag(slot)
        assert not {*b"{}"} & {*tag}
        assert key_slot(b"{" + tag + b"}.model") == slot


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:6379", Address("127.0.0.1", 6379)),
        ("tcp://node:1", Address("node", 1)),
        ("[::1]:7", Address("::1", 7)),
        ("unix:///tmp/x y.sock", Address("", 0, "/tmp/x y.sock")),
    ],
)
def test_addresses_are_read(text: str, address: Address) -> None:
    assert Address.parse(text) == address


@pytest.mark.parametrize("text", ["", "nonsense", "host:", ":1", "host:x"])
def test_what_is_no_address_is_said_to_be_none(text: str) -> None:
    with pytest.raises(ValueError, match="is not a valid database node address"):
        Address.parse(text)
