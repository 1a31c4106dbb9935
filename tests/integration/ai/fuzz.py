"""A fuzzer for the AI module: random commands, right, nearly right and wrong, from several connections at once.

`fuzz(database, seed, commands)` sends them and checks that the server lives and that every byte it answers is RESP. A seed
gives the same commands again; their interleaving with workers is the server's.
"""

from __future__ import annotations

import os
import random
import select
import socket
from typing import Any

import redis

from workers.inference import frames

Word = bytes
KEYS = [b"t0", b"t1", b"t2", b"t3", b"m0", b"m1", b"m2", b"s0", b"s1", b"text", b"none"]
TENSORS, MODELS, SCRIPTS = KEYS[:4], KEYS[4:7], KEYS[7:9]
TYPES = [b"FLOAT", b"DOUBLE", b"INT8", b"INT16", b"INT32", b"INT64", b"UINT8", b"UINT16", b"BOOL", b"STRING"]
SIZES = [4, 8, 1, 2, 4, 8, 1, 2, 1, 0]
PROGRAMS = [b"add", b"both", b"echo", b"first", b"fail no", b"slow 0.001", b"pad 5", b"broken", b"pid"]
KEYWORDS = [
    b"INPUTS", b"OUTPUTS", b"TIMEOUT", b"BLOB", b"VALUES", b"META", b"TAG", b"BATCHSIZE", b"LOAD", b"PERSIST", b"ROUTING", b"|>",
    b"KEYS", b"ARGS", b"SOURCE", b"ENTRY_POINTS", b"$", b"AI.MODELRUN", b"AI.TENSORSET", b"AI.SCRIPTEXECUTE", b"CPU", b"GPU:1",
]  # fmt: skip
NUMBERS = [
    b"0",
    b"1",
    b"2",
    b"3",
    b"-1",
    b"17",
    b"65536",
    b"2147483648",
    b"9223372036854775807",
    b"99999999999999999999",
    b"1.5",
    b"",
]


def number(value: int) -> Word:
    return b"%d" % value


class Grammar:
    """Random commands."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.dumps: list[bytes] = []

    def some(self, choices: list[Word], least: int = 1, most: int = 3) -> list[Word]:
        return [self.random.choice(choices) for _ in range(self.random.randint(least, most))]

    def key(self, likely: list[Word]) -> Word:
        return self.random.choice(likely if self.random.random() < 0.9 else KEYS)

    def keys(self, likely: list[Word], least: int = 1, most: int = 3) -> list[Word]:
        return [self.key(likely) for _ in range(self.random.randint(least, most))]

    def tensorset(self) -> list[Word]:
        which = self.random.randrange(len(TYPES)) if self.random.random() < 0.4 else 0
        dims = (
            [self.random.randint(1, 4) for _ in range(self.random.randint(1, 3))]
            if which
            else [2, self.random.randint(1, 3)]
        )
        count = 1
        for dim in dims:
            count *= dim
        if self.random.random() < 0.05:
            dims, count, which = [16 * 1024], 16 * 1024, 0
        words = [b"AI.TENSORSET", self.key(TENSORS), TYPES[which], *map(number, dims)]
        match self.random.randrange(3):
            case 0:
                return words
            case 1:
                blob = (
                    b"x\0" * count if not SIZES[which] else self.random.choice([b"\0", b"\1"]) * (SIZES[which] * count)
                )
                return [*words, b"BLOB", blob]
        return [*words, b"VALUES", *(self.random.choice([b"0", b"1"]) for _ in range(min(count, 64)))]

    def tensorget(self) -> list[Word]:
        return [
            b"AI.TENSORGET",
            self.key(TENSORS),
            *self.random.choice([[], [b"BLOB"], [b"VALUES"], [b"META", b"VALUES"]]),
        ]

    def program(self) -> Word:
        """A model; now and then one that kills its worker."""
        return b"die-batched" if self.random.random() < 0.01 else self.random.choice(PROGRAMS)

    def modelstore(self) -> list[Word]:
        words = [b"AI.MODELSTORE", self.key(MODELS), self.random.choice([b"TORCH", b"TORCH", b"ONNX", b"TF"]), b"CPU"]
        if self.random.random() < 0.3:
            words += [b"TAG", b"v1"]
        if self.random.random() < 0.4:
            words += [b"BATCHSIZE", self.random.choice([b"2", b"4", b"8"])]
            if self.random.random() < 0.4:
                words += [b"MINBATCHSIZE", b"4", b"MINBATCHTIMEOUT", b"2"]
        if words[2] == b"TF":
            words += [b"INPUTS", b"1", b"a", b"OUTPUTS", b"1", b"b"]
        if self.random.random() < 0.03:
            return [*words, b"MEMORY", b"%d" % os.getpid(), b"0", self.random.choice([b"", b"0" * 64])]
        return [*words, b"BLOB", self.program()]

    def modelset(self) -> list[Word]:
        return [b"AI.MODELSET", self.key(MODELS), b"TORCH", b"CPU", b"BLOB", self.program()]

    def modelexecute(self) -> list[Word]:
        inputs, outputs = self.keys(TENSORS), self.keys(TENSORS, 1, 2)
        words = [
            b"AI.MODELEXECUTE",
            self.key(MODELS),
            b"INPUTS",
            number(len(inputs)),
            *inputs,
            b"OUTPUTS",
            number(len(outputs)),
        ]
        return [*words, *outputs, *self.random.choice([[], [], [b"TIMEOUT", b"1"], [b"TIMEOUT", b"1000"]])]

    def modelrun(self) -> list[Word]:
        return [b"AI.MODELRUN", self.key(MODELS), b"INPUTS", *self.keys(TENSORS), b"OUTPUTS", *self.keys(TENSORS, 1, 2)]

    def scriptstore(self) -> list[Word]:
        if self.random.random() < 0.5:
            return [b"AI.SCRIPTSET", self.key(SCRIPTS), b"CPU", b"SOURCE", b"words"]
        return [
            b"AI.SCRIPTSTORE",
            self.key(SCRIPTS),
            b"CPU",
            b"ENTRY_POINTS",
            b"2",
            b"sum",
            b"count",
            b"SOURCE",
            b"words",
        ]

    def scriptexecute(self) -> list[Word]:
        inputs, arguments = self.keys(TENSORS, 0, 3), self.some(KEYWORDS, 0, 2)
        words = [b"AI.SCRIPTEXECUTE", self.key(SCRIPTS), self.random.choice([b"sum", b"count", b"none"])]
        words += [b"INPUTS", number(len(inputs)), *inputs, b"ARGS", number(len(arguments)), *arguments]
        return [*words, b"OUTPUTS", b"1", self.key(TENSORS)]

    def scriptrun(self) -> list[Word]:
        words = [b"AI.SCRIPTRUN", self.key(SCRIPTS), b"sum", b"INPUTS", *self.keys(TENSORS)]
        if self.random.random() < 0.3:
            words += [b"$", *self.keys(TENSORS)]
        return [*words, b"OUTPUTS", self.key(TENSORS)]

    def graph(self) -> list[Word]:
        older = self.random.random() < 0.3
        words = [
            self.random.choice([b"AI.DAGRUN", b"AI.DAGRUN_RO"] if older else [b"AI.DAGEXECUTE", b"AI.DAGEXECUTE_RO"])
        ]
        loads = self.keys(TENSORS, 0, 3)
        if loads:
            words += [b"LOAD", number(len(loads)), *loads]
        if self.random.random() < 0.3 and not words[0].endswith(b"RO"):
            words += [b"PERSIST", b"1", self.key(TENSORS)]
        if self.random.random() < 0.5 and not older:
            words += [b"ROUTING", b"x"]
        if self.random.random() < 0.2:
            words += [b"TIMEOUT", b"100"]
        runs = [self.modelrun, self.scriptrun] if older else [self.modelexecute, self.scriptexecute]
        for _ in range(self.random.randint(1, 5)):
            step = self.random.choice([self.tensorset, self.tensorget, *runs, *runs])()
            if b"TIMEOUT" in step:
                step = step[: step.index(b"TIMEOUT")]
            words += [b"|>", *step]
        return words

    def other(self) -> list[Word]:
        key, other = self.random.choice(KEYS), self.random.choice(KEYS)
        words = [
            [b"AI.MODELGET", key, *self.some([b"META", b"BLOB"], 0, 2)],
            [b"AI.SCRIPTGET", key, *self.some([b"META", b"SOURCE"], 0, 2)],
            [b"AI.MODELDEL", key], [b"AI.SCRIPTDEL", key], [b"AI._MODELSCAN"], [b"AI._SCRIPTSCAN"],
            [b"AI.INFO", key], [b"AI.INFO", key, b"RESETSTAT"],
            [b"AI.CONFIG", b"GET", self.random.choice([b"MODEL_CHUNK_SIZE", b"X"])],
            [b"DEL", key], [b"UNLINK", key], [b"RENAME", key, other], [b"COPY", key, other], [b"PEXPIRE", key, b"1"],
            [b"TYPE", key],
            [b"MEMORY", b"USAGE", key], [b"SET", b"text", b"x"], [b"INFO", b"EVERYTHING"], [b"AI._WORKER", b"LIST"],
            [b"AI._WORKER", b"FIGURES", key, b"nothing"],
            [b"MULTI"], [b"EXEC"], [b"DISCARD"], [b"SELECT", b"0"], [b"DUMP", key], [b"DEBUG", b"DIGEST-VALUE", key],
            [b"EVAL", b"return redis.call('AI.TENSORGET',KEYS[1])", b"1", key],
            [b"COMMAND", b"GETKEYS", *self.random.choice([self.graph, self.scriptrun, self.modelexecute, self.scriptexecute])()],
            [b"AI._WORKER",
             *self.some([b"JOIN", b"NEXT", b"SHM", b"MODEL", b"FIGURES", b"1", b"TORCH", b"CPU", b"PID", b"x", key], 1, 7)],
            [b"RESTORE", key, b"0", self.damaged(), b"REPLACE"],
        ]  # fmt: skip
        rare = [
            [b"FLUSHALL"], [b"FLUSHALL", b"ASYNC"], [b"DEBUG", b"RELOAD"], [b"BGREWRITEAOF"], [b"SWAPDB", b"0", b"1"],
            [b"CLIENT", b"PAUSE", b"4", b"WRITE"], [b"CLIENT", b"PAUSE", b"2", b"ALL"], [b"CLIENT", b"UNPAUSE"],
            [b"CLIENT", b"UNBLOCK", number(self.random.randint(1, 60)), self.random.choice([b"ERROR", b"TIMEOUT"])],
        ]  # fmt: skip
        if self.random.random() < 0.02:
            return self.random.choice(rare)
        return self.random.choice(words)

    def damaged(self) -> bytes:
        """A DUMP seen earlier, perhaps with a flipped byte."""
        payload = bytearray(self.random.choice(self.dumps)) if self.dumps else bytearray(b"nothing")
        if self.random.random() < 0.8:
            payload[self.random.randrange(len(payload))] ^= 1 << self.random.randrange(8)
        return bytes(payload)

    def mutated(self, words: list[Word]) -> list[Word]:
        words = list(words)
        for _ in range(self.random.randint(1, 3)):
            at = self.random.randrange(len(words)) if len(words) < 3 else self.random.randrange(1, len(words))
            match self.random.randrange(5):
                case 0:
                    del words[at]
                case 1:
                    words.insert(at, self.random.choice(KEYWORDS + KEYS))
                case 2:
                    words[at] = self.random.choice(NUMBERS + KEYWORDS + KEYS)
                case 3:
                    words[at] = self.random.randbytes(self.random.randrange(12))
                case 4:
                    words = words[: max(1, at)]
            if not words:
                return [b"PING"]
        return words

    def command(self) -> list[Word]:
        kinds = [
            (self.tensorset, 6), (self.tensorget, 3), (self.modelstore, 2), (self.modelset, 1), (self.modelexecute, 6),
            (self.modelrun, 2),
            (self.scriptstore, 1), (self.scriptexecute, 3), (self.scriptrun, 2), (self.graph, 6), (self.other, 8),
        ]  # fmt: skip
        words = self.random.choices([kind for kind, _ in kinds], [weight for _, weight in kinds])[0]()
        if b"MINBATCHSIZE" in words or words[0] == b"CLIENT" or self.random.random() < 0.7:
            return words  # without its time-out a minimal batch may wait for ever, and so may a client with another
        mutated = self.mutated(words)
        if mutated[0].upper() == b"AI._WORKER" and mutated[1:2] and mutated[1].upper() in (b"SUPERVISE", b"NEXT"):
            return words
        return mutated


def encoded(words: list[Word]) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


class Raw:
    """A connection that checks every byte of every reply."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(30)
        self.socket.connect(path)
        self.file = self.socket.makefile("rb")

    def send(self, commands: list[list[Word]]) -> None:
        self.socket.sendall(b"".join(map(encoded, commands)))

    def reply(self) -> Any:
        line = self.file.readline()
        assert line.endswith(b"\r\n"), f"not a reply: {line!r}"
        kind, rest = line[:1], line[1:-2]
        if kind == b"$":
            length = int(rest)
            if length < 0:
                return None
            body = self.file.read(length + 2)
            assert len(body) == length + 2, "a reply ends early"
            assert body.endswith(b"\r\n"), "a bulk string is longer than it says"
            return body[:-2]
        if kind == b"*":
            return [self.reply() for _ in range(int(rest))] if int(rest) >= 0 else None
        if kind == b":":
            return int(rest)
        assert kind in b"+-", f"not a reply: {line!r}"
        return line[:-2]

    def close(self) -> None:
        self.file.close()
        self.socket.close()


def fuzz(path: str, seed: int, commands: int, *, connections: int = 4, pipeline: int = 8) -> dict[bytes, int]:
    """Send random commands; returns how often each first byte of a reply was seen."""
    grammar = Grammar(seed)
    clients = [Raw(path) for _ in range(connections)]
    seen: dict[bytes, int] = {}
    sent = 0
    while sent < commands:
        batches = [[grammar.command() for _ in range(grammar.random.randint(1, pipeline))] for _ in clients]
        for client, batch in zip(clients, batches, strict=True):
            client.send(batch)
        for which, batch in enumerate(batches):
            sent += len(batch)
            if grammar.random.random() < 0.01:
                clients[which].close()  # a caller that goes away before it is answered
                clients[which] = Raw(path)
                continue
            for words in batch:
                reply = clients[which].reply()
                kind = reply[:1] if isinstance(reply, bytes) and reply[:1] in b"+-" else type(reply).__name__.encode()
                seen[kind] = seen.get(kind, 0) + 1
                if (
                    words[0] == b"DUMP"
                    and isinstance(reply, bytes)
                    and reply[:1] not in b"+-"
                    and len(grammar.dumps) < 200
                ):
                    grammar.dumps.append(reply)
    for client in clients:
        client.close()
    return seen


def fuzz_results(client: redis.Redis, path: str, seed: int, units: int) -> int:
    """Be a worker that answers damaged result frames; returns how many of them the module refused."""
    rng = random.Random(seed)
    client.execute_command("AI.TENSORSET", "fx", "FLOAT", 4, "BLOB", bytes(16))
    worker: Raw | None = None
    refused = 0
    for _ in range(units):
        if worker is None:
            worker = Raw(path)
            worker.send([[b"AI._WORKER", b"JOIN", b"1", b"TFLITE", b"CPU", b"PID", b"1"]])
            worker_id = number(worker.reply()[0])
            worker.send([[b"AI._WORKER", b"NEXT", worker_id]])
        caller = Raw(path)
        if not client.exists("fm"):
            caller.send([[b"AI.MODELSTORE", b"fm", b"TFLITE", b"CPU", b"BLOB", b"x"]])
        else:
            caller.send([[b"AI.MODELEXECUTE", b"fm", b"INPUTS", b"1", b"fx", b"OUTPUTS", b"2", b"fy", b"fz"]])
        ready, _, _ = select.select([worker.socket, caller.socket], [], [], 30)
        if worker.socket not in ready:
            caller.close()  # refused at once: an earlier, damaged answer told another number of inputs
            client.delete("fm")
            continue
        elements = worker.reply()
        frame, parts = _results(memoryview(elements[0]), elements)
        mutable = bytearray(frame)
        for _ in range(rng.choice([0, 1, 1, 2])):
            mutable[rng.randrange(len(mutable))] = rng.choice([0, 1, 2, 255, rng.randrange(256)])
        if rng.random() < 0.1:
            del mutable[rng.randrange(len(mutable)) :]
        worker.send([[b"AI._WORKER", b"NEXT", worker_id, bytes(mutable), *parts]])
        client.ping()
        caller.close()
        listed = client.execute_command("AI._WORKER", "LIST")
        if not any(row[1] == int(worker_id) for row in listed):
            refused += 1
            worker.close()
            worker = None
    if worker is not None:
        worker.close()
    return refused


def _results(frame: memoryview, elements: list[bytes]) -> tuple[bytes, list[bytes]]:
    """Right answers to a unit."""
    unit = frames.read_unit(frame)
    results = frames.ResultFrame(unit, None)
    for item in frames.read_items(frame, unit.items, elements, None):
        if isinstance(item, frames.LoadModel):
            results.loaded(1, ["in"], ["a", "b"])
        elif isinstance(item, frames.Run):
            strings = frames.Tensor(frames.STRING, (2, 1), b"ab\0cd\0")
            results.run(1, [frames.Tensor(frames.FLOAT, (2, 2), bytes(16)), strings])
    return bytes(results.finish()), [bytes(part) for part in results.elements]
