"""The quick way through small units, against a socket that plays the module."""

from __future__ import annotations

import contextlib
import mmap
import os
import random
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workers.inference import quick
from workers.inference.connection import Connection
from workers.inference.frames import DOUBLE, FLOAT, INT64, ResultFrame, Run, Tensor, read_items, read_unit

COMMAND = b"*4\r\n$10\r\nAI._WORKER\r\n$4\r\nNEXT\r\n$1\r\n7\r\n"
# Another build of the library: with sanitizers, say.
quick.LIBRARY = Path(os.environ.get("TASKENSEMBLE_TEST_QUICK", quick.LIBRARY))
CODES = {FLOAT: "f4", DOUBLE: "f8", INT64: "i8"}


def run_item(*arrays: Any, version: int = 9, outputs: int = 1) -> bytes:
    item = struct.pack("<BBHHHQIiII", 4, 0, len(arrays), outputs, 0, version, 0, -1, 0, 0)
    item += bytes([1] * outputs) + bytes(-outputs % 8)
    for array in arrays:
        code = {"float32": FLOAT, "float64": DOUBLE, "int64": INT64}[array.dtype.name]
        item += struct.pack("<BBBBIQQ", code, array.ndim, 0, 0, 0, 0, array.nbytes)
        item += struct.pack(f"<{array.ndim}q", *array.shape) + array.tobytes() + bytes(-array.nbytes % 8)
    return item


def unit(number: int, *items: bytes) -> bytearray:
    return bytearray(struct.pack("<QIIQiIQQQ", number, len(items), 0, 0, -1, 0, 0, 0, 0) + b"".join(items))


def reply(frame: bytes) -> bytes:
    return b"*1\r\n$%d\r\n%b\r\n" % (len(frame), frame)


class Bench:
    """A quick way, and the module's end of its socket."""

    def __init__(self, folder: Path, bytes_of: Callable[[Any], Any] | None = None, poll: int = 50) -> None:
        library = quick.load()
        assert library is not None, "compile it: python packaging/build_backend.py"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(folder / "s"))
            listener.listen()
            self.connection = Connection(f"unix://{folder}/s")
            self.server, _ = listener.accept()
        self.server.settimeout(10)
        self.quick = quick.Quick(library, self.connection, COMMAND, poll, bytes_of)
        self.calls = 0

    def remember(self, frame: bytearray, function: Callable[..., Any], *, single: bool = True) -> None:
        def counted(*arrays: Any) -> Any:
            self.calls += 1
            return function(*arrays)

        for run in read_items(memoryview(frame), read_unit(frame).items, [frame], None):
            assert isinstance(run, Run)
            tensors = [value for value in run.inputs if isinstance(value, Tensor)]
            arrays = [np.empty(value.dims, CODES[value.code]) for value in tensors]
            reusable = [(array, memoryview(array.reshape(-1).data).cast("B")) for array in arrays]
            self.quick.remember(frame, run, reusable, counted, single=single)

    def left(self, frame: bytes) -> Any:
        """Serve one unit that the quick way leaves; returns what is left."""
        self.server.sendall(reply(frame))
        self.quick.serve()
        (left,) = self.connection.strings()
        return left

    def answers(self, *frames: bytes) -> list[bytes]:
        """The result frames of units, sent one after the other's answer as the module does."""
        collected: list[bytes] = []

        def module() -> None:
            for frame in frames:
                self.server.sendall(reply(frame))
                collected.append(self.answer())
            self.server.sendall(b"+OK\r\n")

        with ThreadPoolExecutor(1) as pool:
            playing = pool.submit(module)
            self.quick.serve()
            playing.result(10)
        assert self.connection.reply() == "OK"
        return collected

    def answer(self) -> bytes:
        """One result frame that arrives at the module's end."""
        data = bytearray()
        while True:
            received = self.server.recv(1 << 20)
            if not received:
                raise ConnectionError
            data += received
            assert data.startswith(COMMAND[: len(data)])
            length, found, rest = data[len(COMMAND) + 1 :].partition(b"\r\n")
            if found and len(rest) == int(length) + 2:
                assert rest.endswith(b"\r\n")
                return bytes(rest[:-2])

    def close(self) -> None:
        self.quick.close()
        self.connection.close()
        self.server.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


def expected(number: int, outputs: Sequence[Sequence[Any]], microseconds: Sequence[int]) -> bytearray:
    codes = {"float32": FLOAT, "float64": DOUBLE, "int64": INT64}
    frame = ResultFrame(read_unit(unit(number, *[b""] * len(outputs))), None)
    for arrays, duration in zip(outputs, microseconds, strict=True):
        frame.run(duration, [Tensor(codes[array.dtype.name], array.shape, array.tobytes()) for array in arrays])
    return frame.finish()


def times(frame: bytes, *sizes: int) -> list[int]:
    """The microseconds that results of the given sizes name."""
    at, found = 16, []
    for size in sizes:
        found.append(struct.unpack_from("<Q", frame, at + 8)[0])
        at += size
    return found


def test_a_run_like_one_before_is_answered_as_the_python_loop_would(bench: Bench) -> None:
    x, y = np.float32([[1, 2, 3]]), np.float32([[4, 5, 6]])
    bench.remember(unit(1, run_item(x, y)), lambda a, b: a - b)
    (answer,) = bench.answers(unit(2, run_item(y, x)))
    (time,) = times(answer, len(answer) - 16)
    assert time >= 1
    assert answer == expected(2, [[y - x]], [time])
    assert bench.calls == 1


def test_many_runs_of_several_models_and_shapes_in_one_unit_come_back_in_order(bench: Bench) -> None:
    narrow, wide = np.float32([1, 2]), np.arange(5, dtype=np.int64)
    bench.remember(unit(1, run_item(narrow), run_item(wide)), lambda a: a * 2)
    bench.remember(unit(2, run_item(narrow, version=73, outputs=2)), lambda a: (a, a.sum()), single=False)
    items = [run_item(narrow), run_item(narrow, version=73, outputs=2), run_item(wide + 1), run_item(narrow + 1)]
    (answer,) = bench.answers(unit(3, *items))
    results = [[narrow * 2], [narrow, narrow.sum()], [(wide + 1) * 2], [(narrow + 1) * 2]]
    sizes = [len(expected(3, [arrays], [1])) - 16 for arrays in results]
    assert answer == expected(3, results, times(answer, *sizes))


def test_a_unit_that_arrives_in_pieces_is_put_together(bench: Bench) -> None:
    x = np.arange(4000, dtype=np.float64)
    bench.remember(unit(1, run_item(x)), lambda a: a[:3])
    whole = reply(unit(2, run_item(x)))

    def dribble() -> None:
        for start in range(20):
            bench.server.sendall(whole[start : start + 1])
        bench.server.sendall(whole[20:])
        bench.answer()
        bench.server.sendall(b"+OK\r\n")

    with ThreadPoolExecutor(1) as pool:
        dribbling = pool.submit(dribble)
        bench.quick.serve()
        dribbling.result(10)
    assert bench.connection.reply() == "OK"
    assert bench.calls == 1


@pytest.mark.parametrize(
    "other",
    [
        unit(2, run_item(np.float32([1, 2]), version=10)),
        unit(2, run_item(np.float32([1, 2, 3]))),
        unit(2, run_item(np.float64([1, 2]))),
        unit(2, run_item(np.float32([1, 2]), outputs=2)),
        unit(2, run_item(np.float32([1, 2])), run_item(np.float32([1, 2]), version=10)),
        unit(2, run_item(np.float32([1, 2]))) + bytes(8),
        unit(2),
        bytearray(b"short"),
    ],
)
def test_what_is_not_like_a_run_before_is_left_whole(bench: Bench, other: bytearray) -> None:
    bench.remember(unit(1, run_item(np.float32([1, 2]))), lambda a: a)
    assert bench.left(other) == other
    assert bench.calls == 0


def test_replies_that_are_no_units_are_left_as_they_are(bench: Bench) -> None:
    for text, value in ((b"+OK\r\n", "OK"), (b"*2\r\n$1\r\na\r\n$1\r\nb\r\n", [b"a", b"b"]), (b":5\r\n", 5)):
        bench.server.sendall(text)
        bench.quick.serve()
        assert bench.connection.reply() == value


def test_a_unit_with_a_shared_segment_is_left_whole(bench: Bench) -> None:
    frame = unit(1, run_item(np.float32([1, 2])))
    bench.remember(frame, lambda a: a)
    struct.pack_into("<Q", frame, 16, 5)
    assert bench.left(frame) == frame


def test_a_run_that_raises_is_left_to_who_can_say_why_and_tried_again_the_next_time(bench: Bench) -> None:
    def fails(array: Any) -> Any:
        if array[0] < 0:
            raise ValueError("negative")
        return array

    good, bad = np.float32([1]), np.float32([-1])
    bench.remember(unit(1, run_item(good)), fails)
    frame = unit(2, run_item(good), run_item(bad))
    assert bench.left(frame) == frame
    assert len(bench.answers(unit(3, run_item(good)))) == 1


def test_an_interrupt_during_a_run_is_not_swallowed(bench: Bench) -> None:
    def interrupted(_array: Any) -> Any:
        raise KeyboardInterrupt

    frame = unit(1, run_item(np.float32([1])))
    bench.remember(frame, interrupted)
    bench.server.sendall(reply(frame))
    with pytest.raises(KeyboardInterrupt):
        bench.quick.serve()


@pytest.mark.parametrize(
    "output",
    [
        np.zeros(2, np.float16),
        np.zeros(2, np.complex64),
        np.zeros((3, 4)).T,
        np.zeros(4096, np.float32),
        np.array("text"),
        "no array",
        None,
    ],
)
def test_what_returns_other_than_a_small_plain_array_is_left_from_then_on(bench: Bench, output: Any) -> None:
    frame = unit(1, run_item(np.float32([1])))
    bench.remember(frame, lambda _a: output)
    for _ in range(3):
        assert bench.left(frame) == frame
        bench.remember(frame, lambda _a: output)
    assert bench.calls == 1


def test_another_number_of_outputs_than_asked_for_is_left(bench: Bench) -> None:
    frame = unit(1, run_item(np.float32([1]), outputs=2))
    bench.remember(frame, lambda a: [a, a, a], single=False)
    assert bench.left(frame) == frame


def test_a_forgotten_version_is_left(bench: Bench) -> None:
    frame = unit(1, run_item(np.float32([1])))
    other = unit(2, run_item(np.float32([1]), version=9 + 64))
    bench.remember(frame, lambda a: a)
    bench.remember(other, lambda a: a)
    bench.quick.forget(9)
    assert bench.left(frame) == frame
    assert len(bench.answers(other)) == 1


def test_of_many_shapes_those_used_last_are_kept(bench: Bench) -> None:
    frames = [unit(1, run_item(np.zeros(size, np.float32))) for size in range(1, 60)]
    bench.remember(frames[0], lambda a: a)
    for frame in frames[1:]:
        bench.remember(frame, lambda a: a)
        assert len(bench.answers(frames[0])) == 1
    assert len(bench.answers(frames[-1], frames[-2])) == 2
    assert bench.left(frames[1]) == frames[1]


def test_bytes_of_makes_the_buffers_of_outputs(tmp_path: Path) -> None:
    made = Bench(tmp_path, bytes_of=lambda output: np.asarray(output[0]))
    x = np.float32([1, 2])
    made.remember(unit(1, run_item(x)), lambda a: [a + 1])
    (answer,) = made.answers(unit(2, run_item(x)))
    assert answer == expected(2, [[x + 1]], times(answer, 0))
    made.close()


def test_a_closed_server_is_a_connection_error(bench: Bench) -> None:
    bench.server.close()
    with pytest.raises(ConnectionError):
        bench.quick.serve()


def test_changed_bytes_never_do_harm(bench: Bench) -> None:
    chance = random.Random(7)
    x, y = np.float32([1, 2, 3]), np.arange(4, dtype=np.int64)
    good = unit(1, run_item(x), run_item(y), run_item(x, y, version=3, outputs=2))
    bench.remember(unit(1, run_item(x), run_item(y)), lambda a: a)
    bench.remember(unit(1, run_item(x, y, version=3, outputs=2)), lambda *a: a, single=False)

    def module() -> None:
        with contextlib.suppress(OSError):
            while bench.answer():
                bench.server.sendall(b"+OK\r\n")

    with ThreadPoolExecutor(1) as pool:
        playing = pool.submit(module)
        try:
            for _ in range(3000):
                changed = bytearray(good)
                for _ in range(chance.randrange(4)):
                    changed[chance.randrange(len(changed))] = chance.randrange(256)
                if chance.random() < 0.2:
                    del changed[chance.randrange(len(changed)) :]
                bench.server.sendall(reply(changed))
                bench.quick.serve()
                assert bench.connection.reply() in ("OK", [changed])
        finally:
            bench.server.shutdown(socket.SHUT_RDWR)
        playing.result(10)


IDLE, LISTENING, POSTED, DONE, REFUSED, ABANDONED = range(6)
ROOM = 24 * 1024


class Mailbox:
    """The server's side of a mailbox."""

    def __init__(self, bench: Bench) -> None:
        self.memory = mmap.mmap(-1, 64 + 2 * ROOM)
        bench.quick.listen(self.memory)

    @property
    def state(self) -> int:
        return int.from_bytes(self.memory[:4], "little")

    def becomes(self, *states: int) -> int:
        deadline = time.monotonic() + 10
        while (state := self.state) not in states:
            assert time.monotonic() < deadline, f"it stays {state}"
        return state

    def change(self, state: int) -> None:
        self.memory[:4] = state.to_bytes(4, "little")

    def post(self, frame: bytes) -> None:
        self.memory[64 : 64 + len(frame)] = frame
        self.memory[4:8] = len(frame).to_bytes(4, "little")
        self.change(POSTED)

    def response(self) -> bytes:
        length = int.from_bytes(self.memory[8:12], "little")
        return self.memory[64 + ROOM : 64 + ROOM + length]


@contextlib.contextmanager
def listening(bench: Bench) -> Iterator[Mailbox]:
    """A mailbox that is served, as long as something keeps arriving; ended by a reply that is no unit."""
    mailbox = Mailbox(bench)
    with ThreadPoolExecutor(1) as pool:
        serving = pool.submit(bench.quick.serve)
        yield mailbox
        bench.server.sendall(b"+OK\r\n")
        serving.result(10)
    assert bench.connection.reply() == "OK"
    assert mailbox.state == IDLE


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[Bench]:
    """A bench that polls so long that it is never found asleep, however busy the machine is."""
    made = Bench(tmp_path, poll=20_000_000)
    yield made
    made.close()


def test_a_posted_unit_is_answered_in_the_mailbox_again_and_again(patient: Bench) -> None:
    patient.remember(unit(1, run_item(np.float32([1, 2]))), lambda a: a * 2)
    with listening(patient) as mailbox:
        for number in range(3):
            mailbox.becomes(LISTENING)
            mailbox.post(unit(number, run_item(np.float32([number, 1]))))
            assert mailbox.becomes(DONE, REFUSED) == DONE
            assert mailbox.response()[:8] == number.to_bytes(8, "little")
            assert mailbox.response()[-8:] == np.float32([2 * number, 2]).tobytes()
            mailbox.change(IDLE)
        mailbox.becomes(LISTENING)


def test_a_posted_unit_that_is_not_like_one_before_or_fails_is_refused(patient: Bench) -> None:
    def fails(_array: Any) -> Any:
        raise ValueError

    patient.remember(unit(1, run_item(np.float32([1, 2]))), fails)
    with listening(patient) as mailbox:
        for frame in (unit(2, run_item(np.float32([1]))), unit(3, run_item(np.float32([1, 2]))), b"", b"x" * 60):
            mailbox.becomes(LISTENING)
            mailbox.post(frame)
            assert mailbox.becomes(DONE, REFUSED) == REFUSED
            mailbox.change(IDLE)
        mailbox.becomes(LISTENING)


def test_what_was_given_up_while_it_ran_is_not_answered_and_the_next_is(patient: Bench) -> None:
    def slow(array: Any) -> Any:
        if array[0] < 0:
            mailbox.change(ABANDONED)
        return array

    patient.remember(unit(1, run_item(np.float32([1]))), slow)
    with listening(patient) as mailbox:
        mailbox.becomes(LISTENING)
        mailbox.post(unit(2, run_item(np.float32([-1]))))
        mailbox.becomes(LISTENING)
        mailbox.post(unit(3, run_item(np.float32([5]))))
        assert mailbox.becomes(DONE, REFUSED) == DONE
        assert mailbox.response()[-8:-4] == np.float32([5]).tobytes()
        mailbox.change(IDLE)
        mailbox.becomes(LISTENING)
