"""Signing keys: what a key file may look like, and what a signature holds together."""

from __future__ import annotations

import base64
import json
import os
import time
from pathlib import Path

import pytest

from taskensemble.engine import messages, signing
from taskensemble.engine.replies import read_run
from taskensemble.errors import InputError, RecordSchemaError
from tests.integration.engine import runs

KEY = "k1:" + "ab" * 32
OTHER = "k2:" + "cd" * 32


def key_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *lines: str, mode: int = 0o600) -> Path:
    path = tmp_path / "keys"
    path.write_text("\n".join(lines) + "\n")
    path.chmod(mode)
    monkeypatch.setenv(signing.VARIABLE, str(path))
    return path


def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *lines: str) -> signing.Keys:
    key_file(tmp_path, monkeypatch, *lines)
    found = signing.from_environment()
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("lines", "mode", "words"),
    [
        ((KEY,), 0o644, "chmod 600"),
        ((), 0o600, "no key"),
        (("nonsense",), 0o600, "line 1"),
        (("k1:abc",), 0o600, "id:hex"),
        (("k1:abcd",), 0o600, "at least 16 bytes"),
        ((KEY, KEY), 0o600, "its own"),
    ],
)
def test_a_key_file_that_cannot_be_used_is_refused_without_showing_a_key(
    lines: tuple[str, ...], mode: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key_file(tmp_path, monkeypatch, *lines, mode=mode)
    with pytest.raises(InputError, match=words) as caught:
        signing.from_environment()
    assert signing.VARIABLE in str(caught.value)
    assert "abab" not in str(caught.value)


def test_a_missing_key_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(signing.VARIABLE, "/nowhere/keys")
    with pytest.raises(InputError, match="/nowhere/keys"):
        signing.from_environment()


def test_keys_are_rotated_without_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = keys(tmp_path, monkeypatch, KEY)
    signature = old.sign("task", "run", b"body")
    new = keys(tmp_path, monkeypatch, OTHER, "# the old one goes soon", KEY)
    new.verify(signature, "task", "run", b"body")
    assert new.sign("task", "run", b"body").startswith("k2:")
    with pytest.raises(signing.SignatureError, match="'k2'"):
        old.verify(new.sign("task", "run", b"body"), "task", "run", b"body")


def test_a_signature_is_of_one_kind_one_run_and_one_body(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = keys(tmp_path, monkeypatch, KEY)
    signature = known.sign("task", "run", b"body")
    for kind, run, body in (("other", "run", b"body"), ("task", "run2", b"body"), ("task", "run", b"Body")):
        with pytest.raises(signing.SignatureError, match="does not fit"):
            known.verify(signature, kind, run, body)
    for nothing in (None, "", 7):
        with pytest.raises(signing.SignatureError, match="not signed"):
            known.verify(nothing, "task", "run", b"body")


def test_a_sealed_record_is_the_text_that_was_signed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = keys(tmp_path, monkeypatch, KEY)
    text = '{"name":"a","params":{"x":"1","signature":"mine"}}'
    sealed = known.seal(signing.MEMBER, "run", text)
    assert known.unseal(signing.MEMBER, "run", sealed) == text.encode()
    assert json.loads(sealed)["signature"].startswith("k1:")
    for altered in (sealed.replace('"a"', '"b"'), text, sealed.replace("{", '{"extra":1,', 1)):
        with pytest.raises(signing.SignatureError):
            known.unseal(signing.MEMBER, "run", altered)


def test_messages_made_in_bulk_are_signed_as_single_ones_and_stay_cheap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = keys(tmp_path, monkeypatch, KEY)
    run, members = runs.one_entity(tmp_path, ["/bin/true"], 5)
    maker = messages.MemberMessages(run)
    for member in members:
        text = json.loads(maker.text(member.index, 0, 0, name=member.name))
        assert text == messages.member_message(run, member.index, 0, 0, name=member.name)
        known.verify(text["headers"][signing.HEADER], messages.MEMBER, run.run_id, base64.b64decode(text["body"]))
    begun = time.process_time()
    for index in range(10_000):
        maker.text(index, 0, 0, name="member")
    assert time.process_time() - begun < 2.0


def test_without_a_key_file_nothing_is_signed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(signing.VARIABLE, raising=False)
    run, _ = runs.one_entity(tmp_path, ["/bin/true"])
    assert signing.from_environment() is None
    assert signing.HEADER not in messages.setup_message(run)["headers"]
    assert signing.VARIABLE not in os.environ


def test_a_record_of_another_schema_is_refused_and_says_what_to_install() -> None:
    with pytest.raises(RecordSchemaError, match="install the same version"):
        read_run("{}", "999")
