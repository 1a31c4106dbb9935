"""The torch backend: what it runs, and what it refuses."""

from __future__ import annotations

import io
import json
import pickle
import re
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from workers.inference.backend import WRONG_INPUTS, BackendError  # noqa: E402
from workers.inference.frames import BOOL, DOUBLE, FLOAT, INT64, STRING, UINT8, UINT16, Tensor  # noqa: E402


class Affine(torch.nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 3)
        self.register_buffer("scale", torch.arange(3.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x) * self.scale


class Counter(torch.nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen += x.sum()
        return self.seen.clone()


class Forces(torch.nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.full((2,), 3.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x.detach().requires_grad_(True)
        gradient = torch.autograd.grad([(self.weight * y**3).sum()], [y])[0]
        assert gradient is not None
        return -gradient


@pytest.fixture(scope="module")
def backend() -> Any:
    from workers.inference.torch_backend import TorchBackend

    made = TorchBackend(torch.device("cpu"))
    # A worker stays in inference mode; other tests of this process must not.
    made._inference.__exit__(None, None, None)
    return made


def archive(module: torch.nn.Module) -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(module.eval()), buffer)
    return buffer.getvalue()


def program(module: torch.nn.Module, *example: torch.Tensor, free: bool = True) -> bytes:
    shapes = tuple({0: torch.export.Dim("batch")} for _ in example) if free else None
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(module.eval(), example, dynamic_shapes=shapes), buffer)
    return buffer.getvalue()


class Records:
    """A database that keeps what scripts ask of it."""

    def __init__(self, replies: dict[str, Any] | None = None, model: Any = None) -> None:
        self.asked: list[tuple[str, ...]] = []
        self._replies = replies or {}
        self._model = model

    def execute(self, command: str, args: Sequence[str]) -> Any:
        self.asked.append((command, *args))
        return self._replies.get(command, "OK")

    def model(self, name: str) -> Any:
        self.asked.append(("model", name))
        return self._model


def run(script: Any, function: str, inputs: list[Any], outputs: int = 1, **how: Any) -> Any:
    return script.run(
        function, inputs, outputs, **({"entry_point": False, "list_at": -1, "keys": [], "args": []} | how)
    )


@pytest.mark.parametrize("form", [archive, lambda module: program(module, torch.zeros(2, 4))], ids=["jit", "export"])
def test_a_model_computes_what_it_computes_in_process(backend: Any, form: Callable[[Any], bytes]) -> None:
    module = Affine()
    x = torch.rand(5, 4)
    with torch.inference_mode():
        model = backend.load_model(form(module), [], [])
        native = backend.native(Tensor(FLOAT, (5, 4), bytearray(x.numpy().tobytes())))
        (y,) = model.run([native], 1)
        wire = backend.wire(y)
    assert (wire.code, wire.dims) == (FLOAT, (5, 3))
    torch.testing.assert_close(
        torch.frombuffer(bytearray(wire.blob), dtype=torch.float32).view(5, 3), module(x).detach()
    )
    assert list(model.input_names) == ["x"]
    assert model.output_names is not None
    assert len(model.output_names) == 1


def test_a_wrong_number_of_inputs_is_the_reference_text(backend: Any) -> None:
    model = backend.load_model(archive(Affine()), [], [])
    with pytest.raises(BackendError, match=WRONG_INPUTS):
        model.run([torch.zeros(1, 4), torch.zeros(1, 4)], 1)


def test_a_model_that_fails_says_where_in_one_text(backend: Any) -> None:
    model = backend.load_model(archive(Affine()), [], [])
    with pytest.raises(RuntimeError, match="The following operation failed in the TorchScript interpreter"):
        model.run([torch.zeros(1, 5)], 1)


def test_a_program_refuses_shapes_it_was_not_exported_for(backend: Any) -> None:
    model = backend.load_model(program(Affine(), torch.zeros(2, 4)), [], [])
    with pytest.raises(BackendError, match="expected 4 in dimension 1 but was 5"):
        model.run([torch.zeros(1, 5)], 1)
    with pytest.raises(BackendError, match=r"expected type torch.float32 but was torch.float64"):
        model.run([torch.zeros(1, 4, dtype=torch.float64)], 1)
    fixed = backend.load_model(program(Affine(), torch.zeros(2, 4), free=False), [], [])
    with pytest.raises(BackendError, match="expected 2 in dimension 0 but was 3"):
        fixed.run([torch.zeros(3, 4)], 1)


@pytest.mark.parametrize(
    "form", [archive, lambda module: program(module, torch.zeros(2), free=False)], ids=["jit", "export"]
)
def test_a_model_with_a_state_keeps_it_between_runs(backend: Any, form: Callable[[Any], bytes]) -> None:
    with torch.inference_mode():
        model = backend.load_model(form(Counter()), [], [])
        model.run([torch.ones(2)], 1)
        (second,) = model.run([torch.ones(2)], 1)
    assert second.item() == 4


def test_a_model_that_differentiates_inside_runs(backend: Any) -> None:
    with torch.inference_mode():
        model = backend.load_model(archive(Forces()), [], [])
        (forces,) = model.run([torch.full((2,), 2.0)], 1)
        wire = backend.wire(forces)
    assert torch.frombuffer(bytearray(wire.blob), dtype=torch.float32).tolist() == [-36.0, -36.0]


@pytest.mark.parametrize(
    ("code", "dtype"),
    [(DOUBLE, torch.float64), (INT64, torch.int64), (UINT8, torch.uint8), (UINT16, torch.uint16), (BOOL, torch.bool)],
)
def test_tensors_come_back_as_they_went_in(backend: Any, code: int, dtype: Any) -> None:
    values = torch.tensor([[1, 0, 1]]).to(dtype)
    blob = values.numpy().tobytes()
    native = backend.native(Tensor(code, (1, 3), bytearray(blob)))
    assert native.dtype is dtype
    wire = backend.wire(native)
    assert (wire.code, wire.dims, bytes(wire.blob)) == (code, (1, 3), blob)


def test_empty_transposed_and_half_precision_tensors_go_out_as_plain_ones(backend: Any) -> None:
    assert backend.wire(backend.native(Tensor(FLOAT, (0, 3), b""))).dims == (0, 3)
    turned = torch.arange(6.0).view(2, 3).t()
    assert bytes(backend.wire(turned).blob) == turned.contiguous().numpy().tobytes()
    large = torch.rand(64, 65).t()
    assert bytes(backend.wire(large).blob) == large.contiguous().numpy().tobytes()
    for half in (torch.float16, torch.bfloat16):
        wire = backend.wire(torch.ones(2, dtype=half))
        assert (wire.code, bytes(wire.blob)) == (FLOAT, torch.ones(2).numpy().tobytes())
    assert bytes(backend.wire(torch.eye(2).to_sparse()).blob) == torch.eye(2).numpy().tobytes()


def test_strings_and_complex_numbers_are_refused(backend: Any) -> None:
    with pytest.raises(BackendError, match="STRING tensors are not supported"):
        backend.native(Tensor(STRING, (1,), b"a\0"))
    with pytest.raises(BackendError, match="unsupported type"):
        backend.wire(torch.ones(1, dtype=torch.complex64))


def test_a_gpu_that_is_not_there_is_the_reference_text(monkeypatch: pytest.MonkeyPatch) -> None:
    from workers.inference.torch_backend import torch_device

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BackendError, match=r"^GPU requested but Torch couldn't find CUDA$"):
        torch_device("GPU:0")


class TestScripts:
    def test_an_indented_source_compiles_and_functions_take_tensors_in_order(self, backend: Any) -> None:
        script = backend.load_script("\n    def sub(a, b):\n        return a - b\n", [], Records())
        assert run(script, "sub", [torch.ones(1) * 3, torch.ones(1)])[0].item() == 2

    def test_a_trailing_list_takes_what_remains(self, backend: Any) -> None:
        script = backend.load_script(
            "def total(a, rest: List[Tensor]):\n    return a + torch.stack(rest).sum(0)\n", [], Records()
        )
        inputs = [torch.ones(1)] * 4
        assert run(script, "total", inputs)[0].item() == 4
        assert run(script, "total", inputs, list_at=1)[0].item() == 4

    def test_entry_points_get_tensors_keys_and_args(self, backend: Any) -> None:
        source = (
            "def f(tensors: List[Tensor], keys: List[str], args: List[str]):\n"
            "    return [tensors[0] * float(args[0]), tensors[1] + len(keys)]\n"
        )
        script = backend.load_script(source, ["f"], Records())
        first, second = run(
            script, "f", [torch.ones(1), torch.ones(1)], 2, entry_point=True, keys=["k", "l"], args=["2.5"]
        )
        assert (first.item(), second.item()) == (2.5, 3)

    def test_scripts_call_the_database(self, backend: Any) -> None:
        source = (
            "def f(tensors: List[Tensor], keys: List[str], args: List[str]):\n"
            "    redis.execute('SET', keys[0], args[0])\n"
            "    redis.execute('MSET', [keys[0], args[0]])\n"
            "    n = int(str(redis.execute('INCR', keys[0])))\n"
            "    values = redis.execute('LRANGE', keys[0], '0', '-1')\n"
            "    assert isinstance(values, List[str])\n"
            "    for value in values:\n"
            "        n += int(value)\n"
            "    return redisAI.model_execute('m', [tensors[0] + n], 1)[0]\n"
        )
        with torch.inference_mode():
            module = Affine()
            records = Records({"INCR": 5, "LRANGE": ["1", 2]}, backend.load_model(archive(module), [], []).run)
            script = backend.load_script(source, ["f"], records)
            (y,) = run(script, "f", [torch.zeros(1, 4)], entry_point=True, keys=["k"], args=["v"])
            torch.testing.assert_close(y, module(torch.full((1, 4), 8.0)))
        assert records.asked == [
            ("SET", "k", "v"),
            ("MSET", "k", "v"),
            ("INCR", "k"),
            ("LRANGE", "k", "0", "-1"),
            ("model", "m"),
        ]

    @pytest.mark.parametrize(
        ("reply", "told"),
        [
            ("ERR unknown command", "Redis command returned an error: ERR unknown command"),
            (
                "ERR wrong number of arguments for 'set' command",
                "Redis command returned an error: Invalid argument (ERR wrong number of arguments for 'set' command)",
            ),
        ],
    )
    def test_a_failing_command_is_the_callers_error_without_our_call_stack(
        self, backend: Any, reply: str, told: str
    ) -> None:
        class Broken(Records):
            def execute(self, command: str, args: Sequence[str]) -> Any:
                raise BackendError(reply)

        script = backend.load_script("def f(x):\n    redis.execute('NOPE')\n    return x\n", [], Broken())
        with pytest.raises(BackendError, match=re.escape(told)) as raised:
            run(script, "f", [torch.ones(1)])
        assert ".py(" not in str(raised.value)

    @pytest.mark.parametrize(
        ("source", "entry_points", "text"),
        [
            ("def f(x):\n    return x\n", ["g"], "Function g does not exist in the given script."),
            ("def f(x):\n    return x\n", ["f"], "Wrong number of inputs in function f. Expected 3 but was 1"),
            (
                "def f(a, b, c):\n    return a\n",
                ["f"],
                "Wrong inputs type in function f. Expected signature similar to: "
                "def f(tensors: List[Tensor], keys: List[str], args: List[str])",
            ),
        ],
    )
    def test_entry_points_are_checked_when_stored(
        self, backend: Any, source: str, entry_points: list[str], text: str
    ) -> None:
        with pytest.raises(BackendError) as raised:
            backend.load_script(source, entry_points, Records())
        assert str(raised.value) == text

    @pytest.mark.parametrize(
        ("function", "inputs", "outputs", "text"),
        [
            ("nope", 1, 1, "Function does not exist: nope"),
            ("f", 3, 1, "Wrong number of inputs in function f. Expected 1 but was 3"),
            ("f", 1, 2, "Function returned unexpected number of outputs - f"),
            ("g", 1, 1, "Function returned non-tensor values - g"),
        ],
    )
    def test_calls_are_checked(self, backend: Any, function: str, inputs: int, outputs: int, text: str) -> None:
        script = backend.load_script("def f(x):\n    return x\ndef g(x):\n    return 'text'\n", [], Records())
        with pytest.raises(BackendError) as raised:
            run(script, function, [torch.ones(1)] * inputs, outputs)
        assert str(raised.value) == text

    def test_the_elements_of_a_reply_are_taken_out(self, backend: Any) -> None:
        source = (
            "def numbers(reply: Any):\n"
            "    return torch.cat([torch.tensor(int(str(v))).reshape(1, 1) for v in redis.asList(reply)], dim=0)\n"
            "def f(tensors: List[Tensor], keys: List[str], args: List[str]):\n"
            "    return numbers(redis.execute('LRANGE', keys[0], '0', '-1'))\n"
        )
        script = backend.load_script(source, ["f"], Records({"LRANGE": ["3", "4"]}))
        assert run(script, "f", [], entry_point=True, keys=["k"])[0].tolist() == [[3], [4]]
        script = backend.load_script(source, ["f"], Records({"LRANGE": "text"}))
        with pytest.raises(BackendError, match="not the array of a reply"):
            run(script, "f", [], entry_point=True, keys=["k"])

    def test_what_a_function_returns_is_dropped_where_no_outputs_are_asked_for(self, backend: Any) -> None:
        script = backend.load_script("def f(x):\n    return x\ndef g(x):\n    pass\n", [], Records())
        assert [run(script, name, [torch.ones(1)], 0) for name in "fg"] == [[], []]

    def test_a_source_may_end_without_a_newline(self, backend: Any) -> None:
        script = backend.load_script("def f(x):\n    return x + 1", [], Records())
        assert run(script, "f", [torch.ones(1)], 1)[0].tolist() == [2.0]

    @pytest.mark.parametrize(
        "line",
        [
            "torch.from_file({path!r}, True, 8)",
            "torch.save(x, {path!r})",
            "torch.os.system('touch ' + {path!r})",
            "torch.hub.load({path!r}, 'model')",
            "torch.load({path!r})",
            "torch.ops.aten.from_file({path!r}, True, 8)",
            "open({path!r}, 'w')",
        ],
    )
    def test_a_script_that_reaches_files_or_python_is_refused(self, backend: Any, tmp_path: Path, line: str) -> None:
        target = tmp_path / "touched"
        source = f"def f(x):\n    y = {line.format(path=str(target))}\n    return x, y\n"
        with pytest.raises(BackendError):
            backend.load_script(source, [], Records())
        assert not target.exists()


class TestMaliciousArchives:
    def test_a_model_that_writes_a_file_when_it_runs_is_refused(self, backend: Any, tmp_path: Path) -> None:
        target = str(tmp_path / "touched")

        class Writer(torch.nn.Module):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__()
                self.target = target

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                torch.save(x, self.target)
                return x

        with pytest.raises(BackendError, match="aten::save"):
            backend.load_model(archive(Writer()), [], [])
        assert not Path(target).exists()

    def test_a_model_that_writes_a_file_while_it_loads_is_refused_before(self, backend: Any, tmp_path: Path) -> None:
        target = str(tmp_path / "touched")

        class Loader(torch.nn.Module):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__()
                self.target = target
                self.training = False

            @torch.jit.export
            def __getstate__(self) -> tuple[str, bool]:
                return self.target, self.training

            @torch.jit.export
            def __setstate__(self, state: tuple[str, bool]) -> None:
                self.target = state[0]
                self.training = state[1]
                torch.save(torch.zeros(1), self.target)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return x

        blob = archive(Loader())
        Path(target).unlink(missing_ok=True)
        with pytest.raises(BackendError, match="aten::save"):
            backend.load_model(blob, [], [])
        assert not Path(target).exists()

    def test_a_pickle_is_no_model(self, backend: Any, tmp_path: Path) -> None:
        target = tmp_path / "touched"
        evil = Evil(str(target))
        saved = io.BytesIO()
        torch.save({"weights": evil}, saved)
        for blob in (pickle.dumps(evil), saved.getvalue()):
            with pytest.raises(BackendError):
                backend.load_model(blob, [], [])
            assert not target.exists()


class Evil:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return Path.touch, (Path(self.path),)


def rewritten(blob: bytes, changes: dict[str, Callable[[Any], Any]], added: dict[str, bytes] | None = None) -> bytes:
    """A `.pt2` archive with some records changed: JSON records as objects, others as bytes."""
    reader = torch._C.PyTorchFileReader(io.BytesIO(blob))
    target = io.BytesIO()
    writer = torch._C.PyTorchFileWriter(target)
    for name in reader.get_all_records():
        record = reader.get_record(name)
        if name in changes:
            change = changes[name]
            record = json.dumps(change(json.loads(record))).encode() if name.endswith(".json") else change(record)
        if not name.startswith(".data/") and name != "byteorder":
            writer.write_record(name, record, len(record))
    for name, record in (added or {}).items():
        writer.write_record(name, record, len(record))
    writer.write_end_of_file()
    return target.getvalue()


def replaced(text: str, by: str) -> Callable[[Any], Any]:
    def change(document: Any) -> Any:
        found = json.dumps(document)
        assert json.dumps(text)[1:-1] in found
        return json.loads(found.replace(json.dumps(text)[1:-1], json.dumps(by)[1:-1]))

    return change


class TestMaliciousPrograms:
    GRAPH = "models/model.json"

    @pytest.fixture(scope="class")
    def sound(self) -> bytes:
        return program(Affine(), torch.zeros(2, 4))

    def test_an_unchanged_copy_still_loads(self, backend: Any, sound: bytes) -> None:
        backend.load_model(rewritten(sound, {}), [], [])

    def test_a_pickled_weight_is_never_unpickled_freely(self, backend: Any, sound: bytes, tmp_path: Path) -> None:
        target = tmp_path / "touched"
        saved = io.BytesIO()
        torch.save({"w": Evil(str(target))}, saved)

        def pickled(config: Any) -> Any:
            for payload in config["config"].values():
                payload["use_pickle"] = True
            return config

        changes: dict[str, Callable[[Any], Any]] = {
            "data/weights/model_weights_config.json": pickled,
            **{f"data/weights/weight_{index}": lambda _: saved.getvalue() for index in range(3)},
        }
        with pytest.raises(BackendError):
            backend.load_model(rewritten(sound, changes), [], [])
        assert not target.exists()

    def test_pickled_sample_inputs_are_not_read(self, backend: Any, sound: bytes, tmp_path: Path) -> None:
        target = tmp_path / "touched"
        saved = io.BytesIO()
        torch.save(((Evil(str(target)),), {}), saved)
        backend.load_model(rewritten(sound, {"data/sample_inputs/model.pt": lambda _: saved.getvalue()}), [], [])
        assert not target.exists()

    @pytest.mark.parametrize(
        "name",
        ["data/constants/opaque_obj_0", "data/constants/custom_obj_0", "data/aotinductor/model/x.so", "extra/x.so"],
    )
    def test_pickled_objects_and_compiled_code_are_refused(self, backend: Any, sound: bytes, name: str) -> None:
        with pytest.raises(BackendError, match="refused"):
            backend.load_model(rewritten(sound, {}, {name: pickle.dumps(1)}), [], [])

    @pytest.mark.parametrize(
        ("text", "by"),
        [
            ("torch.ops.aten.linear.default", "torch.os.system"),
            ("torch.ops.aten.linear.default", "torch.ops.aten.from_file.default"),
            ("torch.ops.aten.linear.default", "_operator.attrgetter"),
            ("torch.ops.aten.linear.default", "torch.ops.higher_order.triton_kernel_wrapper_mutation"),
            ('{"name": "x"}', "{\"name\": \"x=__import__('os').system('false')\"}"),
            ("Symbol(", "__import__('os').system("),
            ("builtins.tuple", "collections.defaultdict"),
        ],
    )
    def test_a_graph_that_names_anything_but_arithmetic_is_refused(
        self, backend: Any, sound: bytes, text: str, by: str
    ) -> None:
        def change(document: Any) -> Any:
            found = json.dumps(document)
            changed = (
                found.replace(text, by)
                if text in found
                else found.replace(json.dumps(text)[1:-1], json.dumps(by)[1:-1])
            )
            assert changed != found
            return json.loads(changed)

        with pytest.raises(BackendError, match="refused"):
            backend.load_model(rewritten(sound, {self.GRAPH: change}), [], [])

    def test_guards_are_not_compiled(self, backend: Any, sound: bytes) -> None:
        def guarded(document: Any) -> Any:
            document["guards_code"] = ["__import__('os').abort()"]
            return document

        model = backend.load_model(rewritten(sound, {self.GRAPH: guarded}), [], [])
        assert model.run([torch.zeros(3, 4)], 1)[0].shape == (3, 3)

    def test_an_archive_of_something_else_is_refused(self, backend: Any) -> None:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as packed:
            packed.writestr("hello.txt", "hello")
        with pytest.raises(BackendError):
            backend.load_model(buffer.getvalue(), [], [])
        with pytest.raises(BackendError):
            backend.load_model(b"", [], [])


def test_a_program_moves_with_weights_and_buffers_to_the_device_it_is_stored_for(tmp_path: Path) -> None:
    from workers.inference import torch_export

    file = tmp_path / "program.pt2"
    file.write_bytes(program(Affine(), torch.zeros(2, 4)))
    loaded = torch_export.load(str(file), torch.device("meta"))
    (result,) = loaded.forward(torch.zeros(5, 4, device="meta"))
    assert (result.device.type, tuple(result.shape)) == ("meta", (5, 3))
