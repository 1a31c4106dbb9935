"""An inference worker, and a supervisor, whose models are words: `add`, `echo`, `die`, `hang`, ….

It speaks the real protocol with the real frames, needs no backend, and does on demand what a real worker does only when it
breaks. Run as `python toy_worker.py worker <socket> <backend> <device>` or `python toy_worker.py supervisor <socket>
<backend:device:count> …`.

A model's blob is its word and perhaps an argument, separated by a space:

| word | outputs |
|---|---|
| add | the sum of the inputs |
| echo | the inputs |
| both | sum and product of two inputs |
| pad n | the first input, repeated along dimension 1 to n columns |
| slow s | the first input, after s seconds |
| wait path | the first input, as soon as the file exists |
| first | one row, whatever the batch |
| none | no row |
| fail text | the error `text` |
| fail-negative | the first input; an error if any element is negative |
| die | kills the worker |
| die-once path | kills the worker unless the file exists, which it makes; then the first input |
| die-batched | kills the worker if dimension 0 is more than 1; then the first input |
| hang path | sleeps for ever unless the file exists, which it makes; then the first input |
| trace path | the first input; appends a line with dimension 0 to the file |
| garbage | answers a malformed frame |
| pid | the worker's process id as INT64 |
| broken | cannot be loaded |

A script's functions are: sum (adds all inputs), count (numbers of inputs, keys and args), and the words above.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[3]))

from workers.inference import frames
from workers.inference.connection import Connection
from workers.inference.segment import Segment, shares_memory

DTYPES = [None, "<f4", "<f8", "<i1", "<i2", "<i4", "<i8", "<u1", "<u2", "?"]


class Garbage(Exception):
    """Answer something that is no result frame."""


def once(path: str) -> bool:
    """Whether this is the first call for the path."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def array(tensor: frames.Tensor) -> np.ndarray:
    if tensor.code == frames.STRING:
        words = bytes(tensor.blob).split(b"\0")[:-1]
        return np.array(words, dtype=object).reshape(tensor.dims)
    return np.frombuffer(tensor.blob, DTYPES[tensor.code]).reshape(tensor.dims)


def wire(value: np.ndarray) -> frames.Tensor:
    value = np.asarray(value)
    if value.dtype == object:
        return frames.Tensor(frames.STRING, value.shape, b"".join(bytes(word) + b"\0" for word in value.reshape(-1)))
    code = DTYPES.index({"|b1": "?", "|i1": "<i1", "|u1": "<u1"}.get(value.dtype.str, value.dtype.str))
    return frames.Tensor(code, value.shape, value.tobytes())


def compute(program: str, inputs: list[np.ndarray]) -> list[np.ndarray]:
    word, _, argument = program.partition(" ")
    match word:
        case "add" | "sum":
            return [sum(inputs[1:], start=inputs[0])]
        case "both":
            return [inputs[0] + inputs[1], inputs[0] * inputs[1]]
        case "echo":
            return inputs
        case "pad":
            return [np.repeat(inputs[0][:, :1], int(argument), axis=1)]
        case "slow":
            time.sleep(float(argument))
        case "wait":
            while not Path(argument).exists():
                time.sleep(0.002)
        case "first":
            return [inputs[0][:1]]
        case "none":
            return [inputs[0][:0]]
        case "fail":
            raise ValueError(argument)
        case "fail-negative":
            if (inputs[0] < 0).any():
                raise ValueError("negative")
        case "die":
            die()
        case "die-once":
            if once(argument):
                die()
        case "die-batched":
            if inputs[0].shape[0] > 1:
                die()
        case "hang":
            if once(argument):
                time.sleep(3600)
        case "trace":
            with Path(argument).open("a") as file:
                file.write(f"{inputs[0].shape[0]}\n")
        case "garbage":
            raise Garbage
        case "pid":
            return [np.array([os.getpid()], "<i8")]
        case _:
            raise ValueError(f"unknown word {word}")
    return [inputs[0]]


class Toy:
    """One worker's work."""

    def __init__(self, address: str, backend: str, device: str, supervisor: str = "") -> None:
        self.connection = Connection(address)
        words: list[str | int] = ["AI._WORKER", "JOIN", 1, backend, device, "PID", os.getpid(), "VERSION", "toy"]
        if supervisor:
            words += ["SUPERVISOR", supervisor]
        self.id, pid, probe, token, _ = self.connection.command(*words)
        self.segment = Segment(pid)
        if "TOY_NO_SHM" not in os.environ and shares_memory(pid, probe, bytes(token)):
            self.connection.command("AI._WORKER", "SHM", self.id, bytes(token))
        self.programs: dict[int, str] = {}

    def serve(self) -> None:
        elements = self.connection.command("AI._WORKER", "NEXT", self.id)
        while True:
            try:
                results = self.work(elements)
                parts = [bytes(results.finish()), *map(bytes, results.elements)]
            except Garbage:
                parts = [b"garbage"]
            elements = self.connection.command("AI._WORKER", "NEXT", self.id, *parts)

    def work(self, elements: list[bytes]) -> frames.ResultFrame:
        frame = memoryview(elements[0])
        unit = frames.read_unit(frame)
        segment = self.segment.view(unit.segment_id, unit.segment_fd, unit.segment_size)
        results = frames.ResultFrame(unit, segment)
        outputs: list[list[np.ndarray] | None] = []
        for item in frames.read_items(frame, unit.items, elements, segment):
            outputs.append(None)
            if isinstance(item, frames.Quit):
                sys.exit(0)
            if isinstance(item, frames.Unload):
                self.programs.pop(item.version, None)
            elif isinstance(item, frames.LoadModel):
                self.load(item, results)
            elif isinstance(item, frames.LoadScript):
                self.programs[item.version] = ""
                results.loaded(1, (), ())
            else:
                outputs[-1] = self.run(item, outputs, results)
        return results

    def load(self, item: frames.LoadModel, results: frames.ResultFrame) -> None:
        if item.memory < 0:
            program = bytes(item.blob).decode(errors="replace")
        else:
            with self.segment.sealed(item.memory) as blob:
                program = bytes(blob).decode(errors="replace")
        if program == "broken":
            results.failed(1, "this model is\nbroken")
            return
        self.programs[item.version] = program
        word = program.partition(" ")[0]
        inputs = {"add": ["a", "b"], "both": ["a", "b"]}.get(word)
        results.loaded(1, item.inputs or inputs, item.outputs or {"both": ["", ""]}.get(word))

    def run(self, item: frames.Run, outputs: list, results: frames.ResultFrame) -> list[np.ndarray] | None:
        inputs = []
        for value in item.inputs:
            if isinstance(value, frames.Reference):
                earlier = outputs[value.item]
                if earlier is None:
                    results.skipped()
                    return None
                inputs.append(earlier[value.output])
            else:
                inputs.append(array(value))
        began = time.perf_counter_ns()
        try:
            if item.version not in self.programs:
                raise ValueError(f"version {item.version} was never loaded")
            if item.function == "count":
                sizes = [len(inputs), len(item.keys), len(item.args), item.list_at, item.style]
                produced = [np.array(sizes, "<i4")]
            else:
                program = item.function or self.programs[item.version]
                produced = compute(program, inputs)
            if len(produced) != len(item.wanted):
                raise ValueError(f"{len(produced)} outputs, {len(item.wanted)} expected")
            sent = [wire(value) for value, wanted in zip(produced, item.wanted, strict=True) if wanted]
        except Garbage:
            raise
        except Exception as error:
            results.failed(1, str(error))
            return None
        results.run(max(1, (time.perf_counter_ns() - began) // 1000), sent)
        return produced


def supervise(address: str, pairs: list[str]) -> None:
    connection = Connection(address)
    name = f"toy-{os.getpid()}"
    offers: list[str] = []
    for pair in pairs:
        offers += ["OFFER", *pair.rsplit("/", 2)]
    children: dict[int, subprocess.Popen[bytes]] = {}
    while True:
        order = [bytes(part).decode() for part in connection.command("AI._WORKER", "SUPERVISE", 1, name, *offers)]
        if order[0] == "REPLACE":
            child = children.pop(int(order[4]))
            child.kill()
            child.wait()
        if "TOY_FAILS" in os.environ:
            second = Connection(address)
            second.command("AI._WORKER", "FAILED", name, order[1], order[2], "this supervisor starts nothing")
            second.close()
            continue
        command = [sys.executable, __file__, "worker", address, order[1], order[2], name]
        child = subprocess.Popen(command)
        children[child.pid] = child


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        if sys.argv[1] == "supervisor":
            supervise(sys.argv[2], sys.argv[3:])
        else:
            Toy(sys.argv[2], *sys.argv[3:]).serve()
    except (OSError, EOFError):
        sys.exit(0)


if __name__ == "__main__":
    main()
