"""What a supervisor offers."""

from __future__ import annotations

import pytest

from workers.inference import supervisor
from workers.inference.backend import KINDS
from workers.inference.supervisor import count_gpus, installed_pairs


def test_every_installed_backend_is_offered_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "installed_version", lambda name: None if name == "TF" else "1.0")
    monkeypatch.setattr(supervisor, "can_use_gpus", lambda name: name == "TORCH")
    assert installed_pairs(gpus=2, per_device=3) == [
        ("TORCH", "CPU", 3),
        ("TORCH", "GPU:0", 3),
        ("TORCH", "GPU:1", 3),
        ("TFLITE", "CPU", 3),
        ("ONNX", "CPU", 3),
    ]


def test_a_missing_backend_is_logged_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supervisor, "installed_version", lambda name: None)
    with caplog.at_level("INFO"):
        assert installed_pairs(gpus=0, per_device=1) == []
    for kind in KINDS.values():
        assert f"taskensemble[{kind.extra}]" in caplog.text


@pytest.mark.parametrize(("visible", "expected"), [(None, 2), ("", 0), ("-1", 0), ("1", 1), ("0,1,2", 2)])
def test_gpus_are_counted_within_what_the_process_may_see(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, expected: int
) -> None:
    present = ["/dev/nvidia0", "/dev/nvidia1", "/dev/nvidia0-of-something"]
    monkeypatch.setattr(supervisor.glob, "glob", lambda pattern: present)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert count_gpus() == expected
