"""Where the broker itself saturates: the requests of many workers, written ahead, sent as fast as it takes them.

The simulation's workers are Python and shared one core here, so they are full before the broker is. This sends what they send (a
BLMPOP of a worker's slots, their claims in one EVALSHA, an EVALSHA for each end, a PUBLISH of their events) without the Python
between: each member is claimed and ended by the real script, once.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import threading
import time
from typing import Any

import redis

from benchmarks.scale.simulation import Simulation, Spent, spent
from taskensemble.engine import messages
from taskensemble.engine.records import SCHEMA, State
from taskensemble.engine.store import SCRIPT, run_key
from workers.link import pack

CONNECTIONS = 16
EVENTS_OF_A_MEMBER = 1430
"""Bytes that the three events of a member take in a batch."""


def saturate(simulation: Simulation, members: int, slots: int = 64) -> Spent:
    """Claims and ends `members` members as quickly as the broker answers, `slots` at a time."""
    broker, store = simulation.broker, simulation.store
    run_id = simulation.write(members)
    queue = f"te.run.{run_id}.c1"
    store.begin_setup(run_id, "saturate")
    store.ready(run_id, "saturate")
    run = store.run(run_id)
    maker = messages.MemberMessages(run)
    publisher = messages.Publisher(broker.url)
    texts = [maker.text(index, 0, 0, name=f"m_{index}") for index in range(members)]
    store.release(run_id, 0)
    for at in range(0, members, 1000):
        publisher.publish_raw(queue, texts[at : at + 1000])
    sha = hashlib.sha1(SCRIPT.encode()).hexdigest()
    parts = [list(range(first, members, CONNECTIONS)) for first in range(CONNECTIONS)]
    streams = [
        [_chunk(sha, run_id, queue, part[at : at + slots], number) for at in range(0, len(part), slots)]
        for number, part in enumerate(parts)
    ]
    threads = [threading.Thread(target=_send, args=(broker.url, stream)) for stream in streams]
    before, begun = broker.counts(), time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = spent(before, broker.counts(), 0, slots, members, time.monotonic() - begun)
    ended = store.status(run_id).completed
    if ended != members:
        raise RuntimeError(
            f"{ended} of {members} members of {run_id} have ended: the requests written ahead do not fit"
        )
    store.complete(run_id, 0)
    assert store.status(run_id).state is State.COMPLETED
    return found


def _chunk(sha: str, run_id: str, queue: str, indexes: list[int], number: int) -> bytes:
    """What a worker sends for `indexes`, and an ECHO by which the end of the answers is known."""
    key = run_key(run_id)
    tokens = {index: f"simulated-{number:05d}:{number}.{number}:{index}" for index in indexes}
    claims = [part for index, token in tokens.items() for part in (index, 0, token)]
    commands = [
        pack("BLMPOP", 5, 2, messages.SERVICE_QUEUE, queue, "RIGHT", "COUNT", len(indexes)),
        pack("EVALSHA", sha, 1, key, "claim", SCHEMA, f"simulated-{number:05d}", f"node{number:05d}", *claims),
    ]
    for place, (index, token) in enumerate(tokens.items()):
        commands.append(pack("EVALSHA", sha, 1, key, "finish", index, 0, token, "c", 0, "", "0.0012", "", 12345, place))
    commands.append(pack("PUBLISH", "/0.celeryev/task.multi", json.dumps("x" * EVENTS_OF_A_MEMBER * len(indexes))))
    commands.append(pack("ECHO", f"end-{number}-{indexes[0]}-end"))
    return b"".join(commands)


def _send(url: str, chunks: list[bytes]) -> None:
    client = redis.Redis.from_url(url, protocol=2)
    connection: Any = client.connection_pool.get_connection()
    connection.connect()
    wire: socket.socket = connection._sock
    buffer = bytearray(1 << 18)
    for chunk in chunks:
        wire.sendall(chunk)
        marker = chunk[chunk.rindex(b"end-", 0, chunk.rindex(b"-end")) :]
        tail = b""
        while not tail.endswith(marker):
            count = wire.recv_into(buffer)
            if not count:
                raise ConnectionResetError(f"the broker (pid of this process: {os.getpid()}) closed the connection")
            tail = (tail + bytes(buffer[max(0, count - 64) : count]))[-64:]
    connection.disconnect()
    client.close()
