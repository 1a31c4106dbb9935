"""The loop of an inference worker: take a unit, run it, hand the results back with the request for the next one.

A worker serves one server, or several (the shards of a cluster). Each server is a Session with a connection, a table of loaded
versions and a shared segment of its own; equal blobs that several sessions load share one model.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import hashlib
import logging
import os
import time
from collections.abc import Callable, Sequence
from time import perf_counter_ns
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

from . import quick
from .backend import Backend, BackendError, Model, Script
from .connection import Connection, Credentials, ServerError, wait_for_any
from .frames import (
    STYLE_ENTRY_POINT,
    STYLE_MODEL,
    Item,
    LoadModel,
    LoadScript,
    Quit,
    Reference,
    ResultFrame,
    Run,
    Tensor,
    Unload,
    read_items,
    read_unit,
)
from .repeats import LONGEST, Reusable, Template, version_of
from .script_database import ScriptDatabase
from .segment import SealedBlob, Segment, shares_memory

PROTOCOL = 1
_RECONNECT_DELAYS = (0.1, 0.3, 1.0, 3.0)
"""Seconds between tries to reach a server; until it has a worker again, models of its backend cannot be stored there."""

log = logging.getLogger("taskensemble.inference")


class Options(NamedTuple):
    """How a worker runs."""

    backend: str
    device: str
    credentials: Credentials | None = None
    poll: int = 0
    """Microseconds to poll the socket before sleeping."""
    supervisor: str = ""
    """Name of the supervisor that started this worker; it then ends with its connection. Empty: it reconnects."""
    joined: Callable[[], None] = lambda: None
    """Called each time a server has taken the worker in."""


class Finished(Exception):
    """The module asked the worker to quit."""


class Models:
    """What a worker has loaded, by content: sessions that load the same blob share one model while any of them keeps it."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._models: WeakValueDictionary[tuple[bytes, ...], Any] = WeakValueDictionary()

    def load(self, item: LoadModel) -> Model:
        """The model of a blob, loaded now or before."""
        names = "\0".join((*item.inputs, "", *item.outputs)).encode("utf-8", "surrogateescape")
        digest = item.blob.digest if isinstance(item.blob, SealedBlob) else hashlib.sha256(item.blob).digest()
        key = (digest, names)
        model: Model | None = self._models.get(key)
        if model is None:
            model = self._backend.load_model(item.blob, item.inputs, item.outputs)
            if not model.stateful:
                self._models[key] = model
        return model


class Session:
    """A worker's work for one server."""

    def __init__(self, address: str, backend: Backend, models: Models, options: Options) -> None:
        self.connection = Connection(address, options.credentials, options.poll)
        self._backend = backend
        self._models = models
        self._loaded: dict[int, Model] = {}
        self._quick: quick.Quick | None = None
        self._templates: dict[bytes, Template] = {}
        self._scripts: dict[int, Script] = {}
        self._database = ScriptDatabase(address, options.credentials, options.backend, backend, models.load)
        self._join(options)

    def _join(self, options: Options) -> None:
        words: list[str | int] = ["AI._WORKER", "JOIN", PROTOCOL, options.backend, options.device, "PID", os.getpid()]
        words += ["VERSION", self._backend.version]
        if options.supervisor:
            words += ["SUPERVISOR", options.supervisor]
        worker_id, server_pid, probe_fd, token, run_limit = self.connection.command(*words)
        self._backend.limit_runs(run_limit)
        self._segment = Segment(server_pid)
        shares = shares_memory(server_pid, probe_fd, bytes(token))
        if shares:
            self.connection.command("AI._WORKER", "SHM", worker_id, token)
        encoded = b"%d" % worker_id
        self._next = b"$10\r\nAI._WORKER\r\n$4\r\nNEXT\r\n$%d\r\n%b\r\n" % (len(encoded), encoded)
        self._next_alone = b"*4\r\n" + self._next
        library = quick.load()
        if library is not None:
            self._quick = quick.Quick(library, self.connection, self._next_alone, options.poll, self._backend.bytes_of)
            if shares and options.poll:
                with contextlib.suppress(ServerError):  # a module from before there were mailboxes
                    self._listen(self._quick, self.connection.command("AI._WORKER", "MAILBOX", worker_id))
        self.connection.send_parts((b"*3\r\n", self._next))
        options.joined()

    def _listen(self, quickly: quick.Quick, descriptor: int) -> None:
        if descriptor >= 0:
            quickly.listen(self._segment.mailbox(descriptor))

    def serve(self) -> None:
        """Work on units until the connection ends (ConnectionError) or the module says quit (Finished)."""
        while True:
            if self._quick is None or self.connection.pending:
                self.connection.wait()
            else:
                self._quick.serve()
            self.step()

    def step(self) -> None:
        """Take the unit that has arrived, work on it, and hand its results back."""
        elements = self.connection.strings()
        started = perf_counter_ns()
        unit = elements[0]
        template = self._templates.get(version_of(unit)) if len(unit) <= LONGEST else None
        if template is not None and template.matches(unit):
            frame, parts = self._repeat(template, unit, started)
        else:
            frame, parts = self._work(elements)
        if not parts:
            self.connection.send_parts((self._next_alone, b"$%d\r\n" % len(frame), frame, b"\r\n"))
            return
        command: list[Any] = [b"*%d\r\n" % (4 + len(parts)), self._next]
        for part in (frame, *parts):
            command += (b"$%d\r\n" % len(part), part, b"\r\n")
        self.connection.send_parts(command)

    def _repeat(self, template: Template, unit: bytearray, started: int) -> tuple[bytearray, list[Any]]:
        """The results of a unit like one before."""
        try:
            (native,) = template.run(unit)
            output = self._backend.wire(native)
            frame = template.result(unit, output, _microseconds(started))
            if frame is not None:
                return frame, []
            header = read_unit(unit)
            segment = self._segment.view(header.segment_id, header.segment_fd, header.segment_size)
            results = ResultFrame(header, segment)
            results.run(_microseconds(started), [output])
        except Exception as error:
            results = ResultFrame(read_unit(unit), None)
            results.failed(_microseconds(started), str(error) or repr(error))
        return results.finish(), results.elements

    def _remember(self, unit: bytearray, items: list[Item], outputs: Sequence[Sequence[Any] | None]) -> None:
        """Learn from the runs of a unit, for the runs like them to come."""
        for item, produced in zip(items, outputs, strict=True):
            if not isinstance(item, Run) or produced is None or 0 in item.wanted:
                continue
            if self._quick is not None and item.style == STYLE_MODEL:
                self._remember_quickly(self._quick, unit, item)
            elif len(items) == 1 and len(item.wanted) == 1 and len(unit) <= LONGEST:
                arrays = self._arrays(unit, item)
                if arrays is not None:
                    call = functools.partial(self._call_reusable, item)
                    self._templates[version_of(unit)] = Template(unit, item, arrays, call)

    def _remember_quickly(self, quickly: quick.Quick, unit: bytearray, run: Run) -> None:
        model = self._loaded[run.version]
        arrays = None if model.stateful else self._arrays(unit, run)
        if arrays is None:
            return
        outputs = len(run.wanted)
        call: Callable[..., Any]
        if model.forward is not None and outputs == 1:
            call, single = model.forward, True
        else:
            call, single = (lambda *inputs: model.run([*inputs], outputs)), False
        placed = self._backend.placed
        quickly.remember(unit, run, arrays, call if placed is None else _placing(call, placed), single=single)

    def _arrays(self, unit: bytearray, run: Run) -> list[Reusable] | None:
        """Arrays to copy a run's inputs into; None when they are not all inside the unit's frame, or of no such type."""
        arrays = []
        for value in run.inputs:
            # A view of the frame itself ends before the frame does; what lies elsewhere is no part of it.
            if isinstance(value, Reference) or not isinstance(value.blob, memoryview) or value.blob.obj is not unit:
                return None
            array = self._backend.reusable(value.code, value.dims)
            if array is None:
                return None
            arrays.append(array)
        return arrays

    def close(self) -> None:
        """Close both connections."""
        if self._quick is not None:
            self._quick.close()
        self.connection.close()
        self._database.close()

    def _work(self, elements: list[Any]) -> tuple[bytearray, list[Any]]:
        frame = memoryview(elements[0])
        unit = read_unit(frame)
        segment = self._segment.view(unit.segment_id, unit.segment_fd, unit.segment_size)
        items = read_items(frame, unit.items, elements, segment)
        results = ResultFrame(unit, segment)
        outputs: list[Sequence[Any] | None] = []
        failed: set[int] = set()
        for item in items:
            started = perf_counter_ns()
            produced: Sequence[Any] | None = None
            try:
                if isinstance(item, Run):
                    produced = self._run(item, outputs, failed)
                    if produced is None:
                        results.skipped()
                    else:
                        wire = self._backend.wire
                        sent = [wire(value) for value, wanted in zip(produced, item.wanted, strict=True) if wanted]
                        results.run(_microseconds(started), sent)
                elif isinstance(item, Unload):
                    if self._quick is not None:
                        self._quick.forget(item.version)
                    self._templates.pop(item.version.to_bytes(8, "little"), None)
                    self._loaded.pop(item.version, None)
                    self._scripts.pop(item.version, None)
                elif isinstance(item, Quit):
                    raise Finished
                else:
                    self._load(item, results, started)
            except Finished:
                raise
            except Exception as error:
                produced = None
                if isinstance(item, LoadModel | LoadScript):
                    failed.add(item.version)
                results.failed(_microseconds(started), str(error) or repr(error))
            outputs.append(produced)
        self._remember(elements[0], items, outputs)
        return results.finish(), results.elements

    def _load(self, item: LoadModel | LoadScript, results: ResultFrame, started: int) -> None:
        if isinstance(item, LoadModel):
            model = self._loaded.get(item.version) or self._load_model(item)
            self._loaded[item.version] = model
            results.loaded(_microseconds(started), model.input_names, model.output_names)
            return
        if item.version not in self._scripts:
            source = bytes(item.source).decode("utf-8")
            self._scripts[item.version] = self._backend.load_script(source, item.entry_points, self._database)
        results.loaded(_microseconds(started), (), ())

    def _load_model(self, item: LoadModel) -> Model:
        if item.memory < 0:
            return self._models.load(item)
        with self._segment.sealed(item.memory) as blob:
            return self._models.load(item._replace(blob=blob))

    def _run(self, item: Run, outputs: list[Sequence[Any] | None], failed: set[int]) -> Sequence[Any] | None:
        """The native outputs of a RUN; None when what it depends on failed."""
        if item.version in failed:
            return None
        native = self._backend.native
        inputs = []
        for value in item.inputs:
            if type(value) is Tensor:
                inputs.append(native(value))
                continue
            assert isinstance(value, Reference)
            earlier = outputs[value.item]
            if earlier is None:
                return None
            inputs.append(earlier[value.output])
        return self._call(item, inputs)

    def _call_reusable(self, item: Run, arrays: list[Any]) -> Sequence[Any]:
        """The native outputs of a RUN on arrays of `Backend.reusable`."""
        placed = self._backend.placed
        return self._call(item, arrays if placed is None else [placed(array) for array in arrays])

    def _call(self, item: Run, inputs: list[Any]) -> Sequence[Any]:
        """The native outputs of a RUN on native inputs."""
        if item.style == STYLE_MODEL:
            model = self._loaded.get(item.version)
            if model is None:
                raise BackendError(f"the worker has no model of version {item.version}")
            return model.run(inputs, len(item.wanted))
        script = self._scripts.get(item.version)
        if script is None:
            raise BackendError(f"the worker has no script of version {item.version}")
        self._database.number = item.database
        return script.run(
            item.function,
            inputs,
            len(item.wanted),
            entry_point=item.style == STYLE_ENTRY_POINT,
            list_at=item.list_at,
            keys=item.keys,
            args=item.args,
        )


def _placing(call: Callable[..., Any], placed: Callable[[Any], Any]) -> Callable[..., Any]:
    """The same call for reusable arrays."""
    return lambda *arrays: call(*map(placed, arrays))


def _microseconds(started: int) -> int:
    return max(1, (perf_counter_ns() - started) // 1000)


def serve(addresses: Sequence[str], backend: Backend, options: Options) -> None:
    """Serve servers until they are gone or ask the worker to quit.

    A supervised worker returns when its last server's connection ends; others reconnect, for ever.
    """
    models = Models(backend)
    gc.collect()
    gc.freeze()
    if len(addresses) == 1:
        _serve_one(addresses[0], backend, models, options)
    else:
        _serve_many(addresses, backend, models, options)


def _serve_one(address: str, backend: Backend, models: Models, options: Options) -> None:
    failures = 0
    while True:
        try:
            session = Session(address, backend, models, options)
            failures = 0
            with contextlib.closing(session):
                session.serve()
        except Finished:
            return
        except (OSError, ServerError) as error:
            if options.supervisor:
                log.info("%s: %s", address, error)
                return
            time.sleep(_pause_after(address, error, failures))
            failures += 1


def _pause_after(address: str, error: Exception, failures: int) -> float:
    """Seconds to wait before the next try to reach a server, after so many failures before this one. The first ones are told."""
    delay = _RECONNECT_DELAYS[min(failures, len(_RECONNECT_DELAYS) - 1)]
    level = logging.WARNING if failures < len(_RECONNECT_DELAYS) else logging.DEBUG
    log.log(level, "%s: %s; joining again in %s s, and until it answers", address, error, delay)
    return delay


def _serve_many(addresses: Sequence[str], backend: Backend, models: Models, options: Options) -> None:
    sessions: dict[Connection, tuple[str, Session]] = {}
    waiting = dict.fromkeys(addresses, 0.0)
    failures = dict.fromkeys(addresses, 0)
    while waiting or sessions:
        for address in [address for address, due in waiting.items() if due <= time.monotonic()]:
            try:
                session = Session(address, backend, models, options)
                sessions[session.connection] = (address, session)
                del waiting[address]
                failures[address] = 0
            except (OSError, ServerError) as error:
                waiting[address] = time.monotonic() + _pause_after(address, error, failures[address])
                failures[address] += 1
        for connection in wait_for_any(list(sessions), 1.0 if waiting else None):
            address, session = sessions[connection]
            try:
                session.step()
            except Finished:
                session.close()
                del sessions[connection]
            except (OSError, ServerError) as error:
                log.info("%s: %s", address, error)
                session.close()
                del sessions[connection]
                waiting[address] = time.monotonic() + _RECONNECT_DELAYS[0]
        if options.supervisor and not sessions:
            return
