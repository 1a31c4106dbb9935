"""Every backend through a real server: what it computes, and what it refuses to load."""

from __future__ import annotations

import contextlib
import io
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis

torch = pytest.importorskip("torch")


def scripted(module: Any) -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(module), buffer)
    return buffer.getvalue()


class TestTorch:
    def test_an_archive_and_a_program_compute_what_they_compute_in_process(self, server: Any) -> None:
        module = torch.nn.Linear(10, 4).eval()
        exported = io.BytesIO()
        shapes = ({0: torch.export.Dim("batch")},)
        torch.export.save(torch.export.export(module, (torch.zeros(2, 10),), dynamic_shapes=shapes), exported)
        x = np.random.default_rng(1).random((3, 10), np.float32)
        server.put("x", x)
        expected = module(torch.from_numpy(x)).detach().numpy()
        for blob in (scripted(module), exported.getvalue()):
            assert server("AI.MODELSTORE", "m", "TORCH", "CPU", "BLOB", blob) == b"OK"
            server("AI.MODELEXECUTE", "m", "INPUTS", 1, "x", "OUTPUTS", 1, "y")
            np.testing.assert_allclose(server.get("y"), expected, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("elements", [1000, 20_000, 3_000_000])
    def test_tensors_of_any_size_reach_the_worker_and_come_back(self, server: Any, elements: int) -> None:
        values = np.arange(elements, dtype=np.float64)
        server.put("large", values)
        server("AI.SCRIPTSET", "double", "CPU", "SOURCE", "def double(x):\n    return x * 2\n")
        server("AI.SCRIPTRUN", "double", "double", "INPUTS", "large", "OUTPUTS", "twice")
        np.testing.assert_array_equal(server.get("twice"), values * 2)

    def test_scripts_reach_the_keyspace_and_the_models_beside_them(self, server: Any) -> None:
        module = torch.nn.Linear(2, 2).eval()
        server("AI.MODELSTORE", "inner", "TORCH", "CPU", "BLOB", scripted(module))
        source = (
            "def f(tensors: List[Tensor], keys: List[str], args: List[str]):\n"
            "    redis.execute('SET', keys[0], args[0])\n"
            "    bias = float(str(redis.execute('GET', keys[0])))\n"
            "    return redisAI.model_execute('inner', tensors, 1)[0] + bias\n"
        )
        server("AI.SCRIPTSTORE", "s", "CPU", "ENTRY_POINTS", 1, "f", "SOURCE", source)
        x = np.ones((1, 2), np.float32)
        server.put("x", x)
        server("AI.SCRIPTEXECUTE", "s", "f", "KEYS", 1, "k", "INPUTS", 1, "x", "ARGS", 1, "1.5", "OUTPUTS", 1, "y")
        np.testing.assert_allclose(server.get("y"), module(torch.ones(1, 2)).detach().numpy() + 1.5, rtol=1e-6)
        assert server("GET", "k") == b"1.5"

    def test_a_bad_blob_a_malicious_one_and_a_missing_gpu_are_errors_when_stored(
        self, server: Any, tmp_path: Path
    ) -> None:
        target = str(tmp_path / "touched")

        class Writer(torch.nn.Module):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__()
                self.target = target

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                torch.save(x, self.target)
                return x

        with pytest.raises(redis.ResponseError):
            server("AI.MODELSTORE", "bad", "TORCH", "CPU", "BLOB", b"no archive")
        with pytest.raises(redis.ResponseError, match="aten::save"):
            server("AI.MODELSTORE", "bad", "TORCH", "CPU", "BLOB", scripted(Writer()))
        with pytest.raises(redis.ResponseError, match=r"^GPU requested but Torch couldn't find CUDA$"):
            server("AI.MODELSTORE", "bad", "TORCH", "GPU", "BLOB", scripted(torch.nn.Linear(1, 1)))
        assert not server("EXISTS", "bad")
        assert not Path(target).exists()

    def test_pickles_and_paths_in_an_archive_touch_nothing(self, server: Any, tmp_path: Path) -> None:
        target = tmp_path / "touched"
        exported, weights = io.BytesIO(), io.BytesIO()
        module = torch.nn.Linear(2, 2).eval()
        torch.export.save(torch.export.export(module, (torch.zeros(1, 2),)), exported)
        torch.save({"w": Touching(str(target))}, weights)
        hostile = weights.getvalue()
        for name in ("../../touched", "/tmp/touched", "data/sample_inputs/model.pt", "data/constants/extra.pkl"):
            blob = added(exported.getvalue(), name, hostile)
            with contextlib.suppress(redis.ResponseError):  # what is never read may be there
                server("AI.MODELSTORE", "evil", "TORCH", "CPU", "BLOB", blob)
            with contextlib.suppress(redis.ResponseError):
                server("AI.MODELSTORE", "evil", "TORCH", "CPU", "BLOB", added(scripted(module), name, hostile))
        for blob in (hostile, pickle.dumps(Touching(str(target)))):
            with pytest.raises(redis.ResponseError):
                server("AI.MODELSTORE", "evil", "TORCH", "CPU", "BLOB", blob)
        assert not target.exists()
        assert not Path("/tmp/touched").exists()


class Touching:
    """Makes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.touch, (Path(self.path),)


def added(archive: bytes, name: str, content: bytes) -> bytes:
    """The archive with one more entry."""
    buffer = io.BytesIO(archive)
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "a") as packed:
        warnings.simplefilter("ignore")
        packed.writestr(name, content)
    return buffer.getvalue()


class TestTensorFlow:
    def test_a_frozen_graph_computes_its_named_outputs(self, server: Any, tf_models: Path) -> None:
        given, *produced = (tf_models / "frozen.names").read_text().split()
        words = ("INPUTS", 1, given, "OUTPUTS", 2, *produced, "BLOB", (tf_models / "frozen.pb").read_bytes())
        assert server("AI.MODELSTORE", "frozen", "TF", "CPU", *words) == b"OK"
        self.check(server, "frozen")

    @pytest.mark.parametrize("form", ["tar", "zip"])
    def test_a_saved_model_computes_its_signature(self, server: Any, tf_models: Path, form: str) -> None:
        words = ("INPUTS", 1, "x", "OUTPUTS", 2, "product", "sum", "BLOB", (tf_models / f"saved.{form}").read_bytes())
        assert server("AI.MODELSTORE", "saved", "TF", "CPU", *words) == b"OK"
        self.check(server, "saved")

    def check(self, server: Any, key: str) -> None:
        x = np.arange(8, dtype=np.float32).reshape(2, 4)
        server.put("x", x)
        server("AI.MODELEXECUTE", key, "INPUTS", 1, "x", "OUTPUTS", 2, "product", "total")
        np.testing.assert_allclose(server.get("product"), x @ np.arange(12, dtype=np.float32).reshape(4, 3))
        np.testing.assert_allclose(server.get("total"), x.sum(1))

    @pytest.mark.parametrize("name", ["upper", "forgotten"])
    def test_strings_go_through_and_what_no_output_needs_is_not_run(
        self, server: Any, tf_models: Path, name: str
    ) -> None:
        blob = (tf_models / f"{name}.pb").read_bytes()
        server("AI.MODELSTORE", "upper", "TF", "CPU", "INPUTS", 1, "path", "OUTPUTS", 1, "content", "BLOB", blob)
        server("AI.TENSORSET", "words", "STRING", 2, "VALUES", "ab", "cd")
        server("AI.MODELEXECUTE", "upper", "INPUTS", 1, "words", "OUTPUTS", 1, "shouted")
        assert server("AI.TENSORGET", "shouted", "VALUES") == [b"AB", b"CD"]

    @pytest.mark.parametrize(
        ("file", "names", "text"),
        [
            ("evil_reading.pb", ("path", "content"), "ReadFile"),
            ("evil_reading_in_a_function.pb", ("path", "content"), "ReadFile"),
            ("evil_writing.pb", ("path", "content"), "WriteFile"),
            ("evil_calling_python.pb", ("path", "content"), "PyFunc"),
            ("evil_saved_reader.tar", ("path", "content"), "ReadFile"),
            ("evil_saved_saver.tar", ("path", "done"), "SaveV2"),
            ("evil_path.zip", ("x", "sum"), "leads out of the archive"),
            ("evil_path.tar", ("x", "sum"), "leads out of the archive"),
            ("evil_link.tar", ("x", "sum"), "no regular file"),
        ],
    )
    def test_a_graph_that_reaches_files_or_python_is_refused(
        self, server: Any, tf_models: Path, file: str, names: tuple[str, str], text: str
    ) -> None:
        blob = (tf_models / file).read_bytes()
        with pytest.raises(redis.ResponseError, match=text):
            server("AI.MODELSTORE", "evil", "TF", "CPU", "INPUTS", 1, names[0], "OUTPUTS", 1, names[1], "BLOB", blob)
        assert not server("EXISTS", "evil")

    def test_a_node_that_is_not_in_the_graph_is_named(self, server: Any, tf_models: Path) -> None:
        blob = (tf_models / "upper.pb").read_bytes()
        with pytest.raises(redis.ResponseError, match=r'Input node named "nope" not found in TF graph.'):
            server("AI.MODELSTORE", "m", "TF", "CPU", "INPUTS", 1, "nope", "OUTPUTS", 1, "content", "BLOB", blob)
        with zipfile.ZipFile(archive := io.BytesIO(), "w") as torch_script:
            torch_script.writestr("model/data.pkl", b"")
        for wrong in (b"no graph", archive.getvalue()):
            with pytest.raises(redis.ResponseError, match=r"^Invalid GraphDef$"):
                server("AI.MODELSTORE", "m", "TF", "CPU", "INPUTS", 1, "a", "OUTPUTS", 1, "b", "BLOB", wrong)


class TestLiteRt:
    def test_a_flatbuffer_computes_and_takes_other_batch_sizes(self, server: Any, tf_models: Path) -> None:
        assert (
            server("AI.MODELSTORE", "lite", "TFLITE", "CPU", "BLOB", (tf_models / "dense.tflite").read_bytes()) == b"OK"
        )
        x, expected = np.load(tf_models / "x.npy"), np.load(tf_models / "dense.npy")
        for rows in (2, 1, 2):
            server.put("x", x[:rows])
            server("AI.MODELEXECUTE", "lite", "INPUTS", 1, "x", "OUTPUTS", 1, "y")
            np.testing.assert_allclose(server.get("y"), expected[:rows], rtol=1e-5, atol=1e-6)

    def test_a_wrong_shape_is_an_error_and_the_model_still_runs_afterwards(self, server: Any, tf_models: Path) -> None:
        server("AI.MODELSTORE", "lite", "TFLITE", "CPU", "BLOB", (tf_models / "dense.tflite").read_bytes())
        server.put("wrong", np.zeros((2, 5), np.float32))
        with pytest.raises(redis.ResponseError):
            server("AI.MODELEXECUTE", "lite", "INPUTS", 1, "wrong", "OUTPUTS", 1, "y")
        server.put("x", np.load(tf_models / "x.npy"))
        server("AI.MODELEXECUTE", "lite", "INPUTS", 1, "x", "OUTPUTS", 1, "y")

    def test_an_input_of_as_many_elements_takes_the_models_shape(self, server: Any, tf_models: Path) -> None:
        server("AI.MODELSTORE", "lite", "TFLITE", "CPU", "BLOB", (tf_models / "dense.tflite").read_bytes())
        row = np.load(tf_models / "x.npy")[:1]
        for shape in ((1, 1, 2, 2), (4,), (4, 1)):
            server.put("x", row.reshape(shape))
            server("AI.MODELEXECUTE", "lite", "INPUTS", 1, "x", "OUTPUTS", 1, "y")
            np.testing.assert_allclose(server.get("y"), np.load(tf_models / "dense.npy")[:1], rtol=1e-5, atol=1e-6)

    def test_bytes_that_are_no_flatbuffer_are_refused(self, server: Any, tf_models: Path) -> None:
        damaged = bytearray((tf_models / "dense.tflite").read_bytes())
        damaged[40:120] = b"\xff" * 80
        graph = (tf_models / "frozen.pb").read_bytes()
        for blob, end in ((b"no model", "$"), (graph, "$"), (bytes(damaged), "")):
            with pytest.raises(redis.ResponseError, match=f"^Failed to load model from buffer{end}"):
                server("AI.MODELSTORE", "bad", "TFLITE", "CPU", "BLOB", blob)
        with pytest.raises(redis.ResponseError, match=r"^No graph was found in the protobuf\.$"):
            server("AI.MODELSTORE", "bad", "ONNX", "CPU", "BLOB", graph)

    def test_an_operator_that_reads_files_is_refused(self, server: Any, tf_models: Path) -> None:
        with pytest.raises(redis.ResponseError, match="ReadFile"):
            server("AI.MODELSTORE", "evil", "TFLITE", "CPU", "BLOB", (tf_models / "evil_reading.tflite").read_bytes())
        assert not server("EXISTS", "evil")


class TestOnnx:
    @pytest.fixture(autouse=True)
    def needs_onnx(self) -> None:
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnx")

    def product(self, external: bool = False) -> bytes:
        from onnx import TensorProto, helper, numpy_helper

        weight = numpy_helper.from_array(np.arange(12, dtype=np.float32).reshape(4, 3), "w")
        if external:
            weight.ClearField("raw_data")
            weight.data_location = TensorProto.EXTERNAL
            entry = weight.external_data.add()
            entry.key, entry.value = "location", "passwd"
        graph = helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["y"])],
            "product",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
            [weight],
        )
        model: bytes = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9
        ).SerializeToString()
        return model

    def test_a_model_computes(self, server: Any) -> None:
        assert server("AI.MODELSTORE", "onnx", "ONNX", "CPU", "BLOB", self.product()) == b"OK"
        x = np.ones((2, 4), np.float32)
        server.put("x", x)
        server("AI.MODELEXECUTE", "onnx", "INPUTS", 1, "x", "OUTPUTS", 1, "y")
        np.testing.assert_allclose(server.get("y"), x @ np.arange(12, dtype=np.float32).reshape(4, 3))

    def test_a_script_runs_a_model_of_another_backend(self, server: Any) -> None:
        server("AI.MODELSTORE", "onnx", "ONNX", "CPU", "BLOB", self.product())
        source = (
            "def f(tensors: List[Tensor], keys: List[str], args: List[str]):\n"
            "    return redisAI.model_execute(keys[0], tensors, int(args[0]))[0] + 1\n"
            "def effect(tensors: List[Tensor], keys: List[str], args: List[str]):\n"
            "    redis.execute('SET', keys[0], args[0])\n"
        )
        server("AI.SCRIPTSTORE", "caller", "CPU", "ENTRY_POINTS", 2, "f", "effect", "SOURCE", source)
        x = np.ones((2, 4), np.float32)
        server.put("x", x)
        server.put("wrong", np.ones((2, 5), np.float32))
        call = ("AI.SCRIPTEXECUTE", "caller", "f", "KEYS", 1, "onnx", "INPUTS", 1)
        for key, count, text in [("wrong", 1, "Got invalid dimensions"), ("x", 2, "OUTPUTS here does not match")]:
            with pytest.raises(redis.ResponseError, match=text):
                server(*call, key, "ARGS", 1, count, "OUTPUTS", 1, "y")
        assert server(*call, "x", "ARGS", 1, 1, "OUTPUTS", 1, "y") == b"OK"
        np.testing.assert_allclose(server.get("y"), x @ np.arange(12, dtype=np.float32).reshape(4, 3) + 1)
        assert server("AI.SCRIPTEXECUTE", "caller", "effect", "KEYS", 1, "k", "ARGS", 1, "done") == b"OK"
        assert server("GET", "k") == b"done"

    def test_a_model_of_scikit_learn_computes(self, server: Any) -> None:
        pytest.importorskip("skl2onnx")
        from skl2onnx import to_onnx
        from sklearn.ensemble import RandomForestRegressor

        x = np.random.default_rng(3).random((20, 4), np.float32)
        forest = RandomForestRegressor(5, random_state=1).fit(x, x[:, 0])
        server("AI.MODELSTORE", "forest", "ONNX", "CPU", "BLOB", to_onnx(forest, x[:1]).SerializeToString())
        server.put("x", x)
        server("AI.MODELEXECUTE", "forest", "INPUTS", 1, "x", "OUTPUTS", 1, "y")
        np.testing.assert_allclose(server.get("y")[:, 0], forest.predict(x), atol=1e-5)

    def test_external_data_and_broken_files_are_refused(self, server: Any) -> None:
        with pytest.raises(redis.ResponseError, match="Initializer tensors with external data is not allowed"):
            server("AI.MODELSTORE", "evil", "ONNX", "CPU", "BLOB", self.product(external=True))
        with pytest.raises(redis.ResponseError, match="ModelProto is invalid"):
            server("AI.MODELSTORE", "evil", "ONNX", "CPU", "BLOB", b"no model")
        with pytest.raises(redis.ResponseError, match="ORT format"):
            server("AI.MODELSTORE", "evil", "ONNX", "CPU", "BLOB", b"\0\0\0\0ORTM" + bytes(64))

    @pytest.mark.parametrize("location", ["../../../../etc/passwd", "/etc/passwd", "weights"])
    def test_external_data_inside_a_branch_is_refused(self, server: Any, location: str) -> None:
        from onnx import TensorProto, helper, numpy_helper

        outside = numpy_helper.from_array(np.zeros(4, np.float32), "w")
        outside.ClearField("raw_data")
        outside.data_location = TensorProto.EXTERNAL
        entry = outside.external_data.add()
        entry.key, entry.value = "location", location
        produced = helper.make_tensor_value_info("z", TensorProto.FLOAT, [4])
        branch = helper.make_graph([helper.make_node("Identity", ["w"], ["z"])], "branch", [], [produced], [outside])
        graph = helper.make_graph(
            [helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)],
            "outer",
            [helper.make_tensor_value_info("c", TensorProto.BOOL, [])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        with pytest.raises(redis.ResponseError, match="Initializer tensors with external data is not allowed"):
            server("AI.MODELSTORE", "evil", "ONNX", "CPU", "BLOB", model.SerializeToString())
        assert not server("EXISTS", "evil")

    def test_an_operator_that_loads_a_compiled_model_by_path_is_refused(self, server: Any) -> None:
        from onnx import TensorProto, helper

        node = helper.make_node(
            "EPContext", ["x"], ["y"], domain="com.microsoft", embed_mode=0, ep_cache_context="../../../etc/passwd"
        )
        value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
        model = helper.make_model(helper.make_graph([node], "g", value[:1], value[1:]), ir_version=9)
        with pytest.raises(redis.ResponseError, match="EPContext"):
            server("AI.MODELSTORE", "evil", "ONNX", "CPU", "BLOB", model.SerializeToString())


def test_each_backend_has_a_process_of_its_own(server: Any, tf_models: Path) -> None:
    server("AI.MODELSTORE", "lite", "TFLITE", "CPU", "BLOB", (tf_models / "dense.tflite").read_bytes())
    server("AI.SCRIPTSET", "s", "CPU", "SOURCE", "def f(x):\n    return x\n")
    pids = {worker["backend"]: worker["pid"] for worker in server.workers()}
    assert {"TORCH", "TFLITE"} <= pids.keys()
    assert len(set(pids.values())) == len(pids)
    for backend, foreign in (("TORCH", "tensorflow"), ("TFLITE", "torch")):
        loaded = Path(f"/proc/{pids[backend]}/maps").read_text()
        assert f"/{foreign}/" not in loaded


def test_one_model_asked_again_with_other_shapes_and_sizes_computes_each(server: Any) -> None:
    source = "def grow(x):\n    return x.repeat(int(x[0]))\n"
    server("AI.SCRIPTSET", "grow", "CPU", "SOURCE", source)
    for times, length in ((1, 3), (2, 3), (4000, 3), (2, 3), (3, 5), (2, 3), (1, 2000), (1, 2000)):
        x = np.arange(times, times + length, dtype=np.float32)
        server.put("x", x)
        server("AI.SCRIPTRUN", "grow", "grow", "INPUTS", "x", "OUTPUTS", "y")
        np.testing.assert_array_equal(server.get("y"), np.tile(x, times))


def test_an_error_in_a_repeated_run_is_the_callers_and_the_next_one_runs(server: Any) -> None:
    server("AI.SCRIPTSET", "pick", "CPU", "SOURCE", "def pick(x):\n    assert bool(x[0] > 0)\n    return x\n")
    for value in (1, 2, -1, 3, -1, 4):
        server.put("x", np.full(2, value, np.float32))
        if value < 0:
            with pytest.raises(redis.ResponseError, match="TorchScript interpreter"):
                server("AI.SCRIPTRUN", "pick", "pick", "INPUTS", "x", "OUTPUTS", "y")
        else:
            server("AI.SCRIPTRUN", "pick", "pick", "INPUTS", "x", "OUTPUTS", "y")
            assert server.get("y").tolist() == [value, value]
