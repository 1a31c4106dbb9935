"""Signatures: who may make workers run something, apart from who may write to the broker or the record store.

With a key, drivers and workers sign every message (over task, run and body), drivers sign what the messages point to, the record
of the run and each member's, and workers what an attempt has sent to the next one and to the driver. A worker with a key acts on
nothing else. A signature is `<key id>:<HMAC-SHA256 in hex>`; in a record it is the last field of the JSON text, so what is
checked is the very text that is then read.

The keys stand in a file that only its user may read, named by TASKENSEMBLE_SIGNING_KEY_FILE, one `id:hex` a line. The first one
signs, all of them verify: a new key is added below, then moved to the top once every machine has it, and the old one removed
when no run is left that was signed with it. The file is looked at again whenever it has changed.
"""

from __future__ import annotations

import hmac
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from taskensemble.errors import InputError, TaskensembleError

VARIABLE = "TASKENSEMBLE_SIGNING_KEY_FILE"
HEADER = "te_signature"
RUN, MEMBER, OUTPUTS = "record.run", "record.member", "record.outputs"
SHORTEST = 16
"""Bytes of a key."""
_LINE = re.compile(r"([A-Za-z0-9_.-]{1,64}):([0-9A-Fa-f]+)")
_FIELD = b',"signature":"'


class SignatureError(TaskensembleError):
    """A message or a record is not signed with a key that this process has, or was changed after it was signed."""


@dataclass(frozen=True)
class Keys:
    """The keys of a key file; the first one signs."""

    keys: Mapping[str, bytes] = field(repr=False)

    def sign(self, kind: str, run_id: str, body: bytes) -> str:
        """Signature of a body.

        Arguments:
            kind: a task's name, RUN, MEMBER or OUTPUTS: a signature for one is none for another.
        """
        identifier, key = next(iter(self.keys.items()))
        return f"{identifier}:{_mac(key, kind, run_id, body)}"

    def verify(self, signature: object, kind: str, run_id: str, body: bytes) -> None:
        """Checks the signature of a body.

        Raises:
            SignatureError: it is missing, made with an unknown key, or of something else.
        """
        if not isinstance(signature, str) or not signature:
            raise SignatureError(f"it is not signed: set {VARIABLE} where it comes from")
        identifier, _, digest = signature.partition(":")
        key = self.keys.get(identifier)
        if key is None:
            raise SignatureError(f"it is signed with the key {identifier[:64]!r}, which is not in this {VARIABLE}")
        if not hmac.compare_digest(_mac(key, kind, run_id, body).encode(), digest.encode()):
            raise SignatureError("its signature does not fit: it was changed after it was signed, or is of another run")

    def seal(self, kind: str, run_id: str, text: str) -> str:
        """A record's JSON text with its signature as the last field; the text has none yet, and other fields."""
        return f'{text[:-1]},"signature":"{self.sign(kind, run_id, text.encode())}"}}'

    def unseal(self, kind: str, run_id: str, text: bytes | str) -> bytes:
        """The JSON text that was sealed.

        Raises:
            SignatureError: it was not, or not with a key of these.
        """
        sealed = text.encode() if isinstance(text, str) else text
        left, mark, right = sealed.rpartition(_FIELD)
        if not mark or not right.endswith(b'"}'):
            raise SignatureError(f"it is not signed: set {VARIABLE} where it comes from")
        body = left + b"}"
        self.verify(right[:-2].decode("utf-8", "replace"), kind, run_id, body)
        return body


def from_environment() -> Keys | None:
    """The keys that TASKENSEMBLE_SIGNING_KEY_FILE names; None when it is not set.

    Raises:
        InputError: as `read_file`.
    """
    path = os.environ.get(VARIABLE)
    return read_file(path, VARIABLE) if path else None


def read_file(path: str, said: str) -> Keys:
    """The keys of a file.

    Arguments:
        said: the variable or setting that names it.

    Raises:
        InputError: the file cannot be read, is readable for others, or has no valid key.
    """
    try:
        found = os.stat(path)
    except OSError as error:
        raise InputError(f"{said}={path!r} cannot be read: {error.strerror}; give a file with a line id:hex") from error
    if not stat.S_ISREG(found.st_mode):
        raise InputError(f"{said}={path!r} is no file; give one with a line id:hex")
    if found.st_mode & 0o077:
        raise InputError(f"{said}={path!r} may be read by others than its user: `chmod 600` it")
    return _read(path, said, (found.st_mtime_ns, found.st_size, found.st_ino))


@lru_cache(maxsize=8)
def _read(path: str, said: str, _version: tuple[int, int, int]) -> Keys:
    try:
        with open(path, encoding="ascii") as file:
            lines = file.read().splitlines()
    except (OSError, UnicodeError) as error:
        raise InputError(f"{said}={path!r} cannot be read: {error}; give a file with a line id:hex") from error
    keys: dict[str, bytes] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        # Never the line itself: it holds the key.
        if match is None or len(match[2]) % 2:
            raise InputError(f"{said}={path!r}, line {number}: not of the form id:hex")
        if len(match[2]) < 2 * SHORTEST:
            raise InputError(
                f"{said}={path!r}, line {number}: a key has at least {SHORTEST} bytes, {2 * SHORTEST} digits"
            )
        if match[1] in keys:
            raise InputError(f"{said}={path!r}, line {number}: the id {match[1]!r} is there already; give each its own")
        keys[match[1]] = bytes.fromhex(match[2])
    if not keys:
        raise InputError(f"{said}={path!r} has no key: add a line id:hex, such as k1:$(openssl rand -hex 32)")
    return Keys(keys)


def _mac(key: bytes, kind: str, run_id: str, body: bytes) -> str:
    return hmac.digest(key, f"{kind}\n{run_id}\n".encode() + body, "sha256").hex()
