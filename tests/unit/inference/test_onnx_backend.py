"""The ONNX backend where something of it is missing."""

from __future__ import annotations

import pytest

from workers.inference.backend import BackendError, Threads

onnxruntime = pytest.importorskip("onnxruntime")
helper = pytest.importorskip("onnx.helper")


def identity() -> bytes:
    value = [helper.make_tensor_value_info(name, 1, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", value[:1], value[1:])
    return bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
    )


def test_a_wheel_without_cuda_is_said_when_a_gpu_is_asked_for() -> None:
    from workers.inference.onnx_backend import create

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime was built for GPUs")
    with pytest.raises(BackendError, match="GPU requested but ONNX Runtime couldn't find CUDA"):
        create("GPU:0", Threads())


def test_a_gpu_that_does_not_start_is_an_error_and_no_model_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wheel built for CUDA, on a node where CUDA does not work: onnxruntime itself would take the CPU."""
    from workers.inference.onnx_backend import create

    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    backend = create("GPU:0", Threads())
    with pytest.raises(BackendError, match="couldn't start CUDA"):
        backend.load_model(identity(), [], [])
