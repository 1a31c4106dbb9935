"""Users of a control plane with the least that each of them needs, as lines of a Redis or Valkey ACL file.

    driver   starts, watches and stops runs: all keys of the record store, the queues; no administration
    worker   reads queues, claims and reports; keys and channels of the same patterns, Celery's among them; no administration
    viewer   reads states, events and the list of workers: no secrets, no addresses of databases, no queues; writes nothing

Patterns are those of store.lua (`te:…`), messages.py (`te.…`) and kombu (`_kombu…`, `…celery…`). None of them may
CONFIG, SHUTDOWN, FLUSHALL, MODULE, REPLICAOF or change users.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from getpass import getpass
from hashlib import sha256

_CONNECTION = (
    "+@connection -client +client|id +client|setname +client|setinfo +client|unblock +info +time +exists +type"
)
_NO_ADMINISTRATION = "-@admin -@dangerous -flushall -flushdb -swapdb"
_RECORDS = "~te:* ~te.*"
_CELERY = "~_kombu.* ~*celery.pidbox* ~celeryev* ~celery ~unacked*"
# A subscription to a pattern needs the very pattern: those of kombu, for each of the server's databases.
_CHANNELS = "&te:control " + " ".join(f"&/{db}.celery.pidbox &/{db}.celeryev/*" for db in range(16))
_SCRIPTS = "-@scripting +eval +evalsha +script|load +script|exists"
_DATA = "+@read +@write +@keyspace +@string +@hash +@list +@set +@sortedset +@stream +@transaction +@pubsub"
_SEEN = ("run", "state", "attempts", "lease", "delayed", "events", "members", "e[0-9]*")

RULES: Mapping[str, str] = {
    "driver": f"resetchannels {_RECORDS} {_CHANNELS} {_DATA} {_SCRIPTS} {_NO_ADMINISTRATION} {_CONNECTION}",
    "worker": f"resetchannels {_RECORDS} {_CELERY} {_CHANNELS} {_DATA} {_SCRIPTS} {_NO_ADMINISTRATION} {_CONNECTION}",
    "viewer": " ".join(
        (
            "resetchannels",
            *(f"~te:{{*}}:{part}" for part in _SEEN),
            *(f"~te:{name}" for name in ("runs", "active", "experiment:*", "workers")),
            "+@read",
            _NO_ADMINISTRATION,
            _CONNECTION.replace(" +client|unblock", ""),
        )
    ),
}
"""What each user may do, in the words of ACL SETUSER."""


def users(passwords: Mapping[str, str]) -> str:
    """Lines of an ACL file.

    Arguments:
        passwords: of driver, worker and viewer, or some of them, as SHA-256 digests in hex (64 digits): no password is written.

    Raises:
        KeyError: another name.
    """
    return "".join(f"user {name} reset on #{digest} {RULES[name]}\n" for name, digest in passwords.items())


if __name__ == "__main__":
    unknown = [name for name in sys.argv[1:] if name not in RULES]
    if unknown or len(sys.argv) < 2:
        sys.exit(f"name users: {', '.join(RULES)}")
    asked = {name: sha256(getpass(f"password of {name}: ").encode()).hexdigest() for name in sys.argv[1:]}
    sys.stdout.write(users(asked))
