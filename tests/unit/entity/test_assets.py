"""ML models, scripts and functions: what is accepted, what is refused."""

import io

import pytest

from taskensemble.entity import MLModel, Script
from taskensemble.entity.assets import function_source
from taskensemble.errors import InputError, InputTypeError, UnsupportedError


@pytest.mark.parametrize(
    ("given", "backend"),
    [
        ("TF", "TF"), ("tf", "TF"), ("TFLITE", "TFLITE"), ("tf-lite", "TFLITE"), ("TF_LITE", "TFLITE"), ("Torch", "TORCH"),
        ("PT", "TORCH"), ("pt", "TORCH"), ("ONNX", "ONNX"), ("onnx", "ONNX"),
    ],
)  # fmt: skip
def test_backends_have_these_names_in_any_case(given, backend):
    assert MLModel("m", given, b"x").backend == backend


@pytest.mark.parametrize("model", [b"x", bytearray(b"x"), memoryview(b"x"), io.BytesIO(b"x")])
def test_a_model_in_memory_is_bytes(model):
    asset = MLModel("m", "TORCH", model)
    assert (asset.content, asset.func, asset.is_file) == (b"x", b"x", False)


def test_a_model_from_a_file_is_read_at_the_start(tmp_path, monkeypatch):
    (tmp_path / "m.pt").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    asset = MLModel("m", "TORCH", model_file="m.pt")
    assert (asset.file, asset.content, asset.is_file) == (tmp_path / "m.pt", None, True)


@pytest.mark.parametrize(
    ("device", "count", "first", "devices"),
    [
        ("CPU", 1, 0, ["CPU"]),
        ("cpu", 1, 0, ["cpu"]),
        ("GPU", 1, 0, ["GPU"]),
        ("GPU:3", 1, 0, ["GPU:3"]),
        ("GPU", 3, 0, ["GPU:0", "GPU:1", "GPU:2"]),
        ("GPU", 2, 4, ["GPU:4", "GPU:5"]),
    ],
)
def test_devices_are_counted_from_the_first(device, count, first, devices):
    assert MLModel("m", "TORCH", b"x", None, device, count, first).devices == devices
    assert Script("s", "code", None, device, count, first).devices == devices


@pytest.mark.parametrize(
    ("keywords", "error", "told"),
    [
        ({"backend": "JAX"}, InputError, "'JAX' is unsupported; use TF, TFLITE, TORCH or ONNX"),
        ({"backend": 5}, InputTypeError, "backend"),
        ({"model": None}, InputError, "neither is given"),
        ({"model": b""}, InputError, "neither is given"),
        ({"model": "text"}, InputTypeError, "model_path"),
        ({"model_file": __file__}, InputError, "both are given"),
        ({"model": None, "model_file": "nowhere.pt"}, FileNotFoundError, "nowhere.pt"),
        ({"model": None, "model_file": 5}, InputTypeError, "path"),
        ({"device": "TPU"}, InputError, "'TPU'"),
        ({"device": "CPU:1"}, InputError, "'CPU:1'"),
        ({"device": None}, InputTypeError, "device"),
        ({"devices_per_node": 2}, UnsupportedError, "Cannot set devices_per_node>1 if CPU is specified under devices"),
        ({"first_device": 1}, UnsupportedError, "Cannot set first_device>0 if CPU is specified under devices"),
        ({"device": "GPU:1", "devices_per_node": 2}, ValueError, "numeral"),
        ({"devices_per_node": 0}, InputError, "devices_per_node=0"),
        ({"devices_per_node": "2"}, InputTypeError, "devices_per_node='2'"),
        ({"batch_size": -1}, InputError, "batch_size=-1"),
        ({"min_batch_size": 4, "batch_size": 2}, InputError, "min_batch_size=4"),
        (
            {"min_batch_timeout": 5, "batch_size": 2},
            InputError,
            "min_batch_timeout=5 has no effect without min_batch_size",
        ),
        ({"min_batch_timeout": 0.5}, InputTypeError, "min_batch_timeout=0.5"),
        ({"tag": 5}, InputTypeError, "tag"),
        ({"inputs": 5}, InputTypeError, "inputs"),
        ({"outputs": [5]}, InputTypeError, "outputs"),
        ({"name": ""}, InputError, "name"),
        ({"name": None}, InputTypeError, "name"),
    ],
)
def test_what_cannot_be_stored_is_named(keywords, error, told):
    with pytest.raises(error, match=told):
        MLModel(**({"name": "m", "backend": "TORCH", "model": b"x"} | keywords))


@pytest.mark.parametrize(
    ("keywords", "error", "told"),
    [
        ({}, InputError, "neither is given"),
        ({"script": ""}, InputError, "neither is given"),
        ({"script": "x", "script_path": __file__}, InputError, "both are given"),
        ({"script_path": "nowhere.py"}, FileNotFoundError, "nowhere.py"),
        ({"script": 5}, InputTypeError, "add_function"),
    ],
)
def test_a_script_is_text_or_a_file(keywords, error, told):
    with pytest.raises(error, match=told):
        Script("s", **keywords)


def test_descriptions_tell_what_matters(tmp_path):
    path = tmp_path / "m.pt"
    path.write_bytes(b"x")
    text = str(MLModel("m", "TF", None, path, "GPU", 2, 1, 8, 2, 5, "v1", "in", ["out"]))
    for line in (
        "Name: m", f"File path: {path}", "Devices: 2 GPUs per node", "First_device: 1", "Backend: TF", "Batch size: 8",
        "Min batch size: 2", "Min batch time out: 5", "Tag: v1", "Inputs: ['in']", "Outputs: ['out']",
    ):  # fmt: skip
        assert line in text.splitlines()
    assert "Model stored in memory" in str(MLModel("m", "TF", b"x"))
    assert "Func: code" in str(Script("s", "code"))
    assert f"File path: {path}" in str(Script("s", None, path))


def decorate(function):
    return function


@decorate
def decorated(x):
    return x + 1


class TestFunctions:
    def test_the_source_of_a_python_function_is_taken_without_decorators(self):
        assert function_source("f", decorated) == "def decorated(x):\n    return x + 1\n"

    def test_the_source_of_a_nested_function_is_dedented(self):
        def nested(x):
            return x * 2

        assert function_source("f", nested) == "def nested(x):\n    return x * 2\n"

    def test_text_is_taken_as_it_is(self):
        assert function_source("f", "def f(x):\n    return x\n") == "def f(x):\n    return x\n"

    def test_the_code_of_a_scripted_function_is_taken(self):
        torch = pytest.importorskip("torch")
        scripted = torch.jit.script(decorated)
        assert "def decorated(x: Tensor) -> Tensor" in function_source("f", scripted)

    @pytest.mark.parametrize(
        ("function", "error", "told"),
        [
            (lambda x: x, InputError, "lambda"),
            (5, InputTypeError, "int"),
            (len, InputTypeError, "builtin_function"),
            ("  ", InputError, "empty"),
            (
                eval("type(lambda: 0)")(compile("0", "nowhere", "eval"), {}, "made"),
                InputError,
                "source cannot be found",
            ),
        ],
    )
    def test_what_is_no_function_with_a_source_is_refused(self, function, error, told):
        with pytest.raises(error, match=told):
            function_source("f", function)
