"""Which environment variables hold secrets, judged by their names, and by a value that is a URL with a password in it.

Their values are never in a record, a command line, a message, a preview, a report or a log: a record names them, and the values
stand in a key of the run's own that only workers read (see store.lua, `secrets`).

A name is a secret's when one of its words (between underscores) is PASSWORD, PASSWD, PASSPHRASE, TOKEN, SECRET, CREDENTIAL, or
their plural, when it contains PASSWORD, APIKEY, ACCESSKEY, SECRETKEY or PRIVATEKEY, when its last word is KEY or AUTH, or when it
ends with PASS or PWD after another word; letters of any case.
TASKENSEMBLE_SECRET_ENV adds names and patterns, separated by commas; one with `!` in front takes names out:
`TASKENSEMBLE_SECRET_ENV='WANDB_*,!GAME_KEY'`.
"""

from __future__ import annotations

import os
import re
from fnmatch import fnmatchcase

VARIABLE = "TASKENSEMBLE_SECRET_ENV"
_SECRET = re.compile(
    r"PASSWORD|(?:API|ACCESS|SECRET|PRIVATE)KEY|(?:^|_)(?:PASSWD|PASSPHRASE|TOKEN|SECRET|CREDENTIAL)S?(?:_|$)|(?:^|_)(?:KEY|AUTH)$|_(?:PWD|PASS)$"
)
_URL = re.compile(r"\w://[^/\s:@]*:[^/\s@]+@")


def is_secret(name: str, value: object = None) -> bool:
    """Whether a variable of this name, or with this value, holds a secret."""
    listed = [pattern.strip() for pattern in os.environ.get(VARIABLE, "").split(",") if pattern.strip()]
    if any(fnmatchcase(name, pattern[1:].strip()) for pattern in listed if pattern.startswith("!")):
        return False
    if isinstance(value, str) and _URL.search(value):
        return True
    return bool(_SECRET.search(name.upper()) or any(fnmatchcase(name, pattern) for pattern in listed))
