from __future__ import annotations

import pytest

from taskensemble.ai.resp import Address
from taskensemble.ai.topology import key_slot, shard_tag


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


# The tags that smartredis 0.6.1 used on a cluster of three equal shards.
@pytest.mark.parametrize(("low", "tag"), [(0, b"\0\0"), (5461, b"8M"), (10922, b"p\x9a")])
def test_tags_are_those_of_smartredis(low: int, tag: bytes) -> None:
    assert shard_tag(low, low + 5460) == tag


@pytest.mark.parametrize("low", range(0, 16300, 41))
def test_a_tag_hashes_into_its_shard(low: int) -> None:
    tag = shard_tag(low, low + 80)
    assert b"}" not in tag
    assert low <= key_slot(b"{" + tag + b"}.model") <= low + 80


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
