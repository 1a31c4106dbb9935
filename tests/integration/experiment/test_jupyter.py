"""Progress in Jupyter: a real kernel runs a cell that starts an ensemble."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

jupyter_client = pytest.importorskip("jupyter_client")
pytest.importorskip("ipykernel")

CELL = """
from taskensemble import Experiment
exp = Experiment("cell", slots=2)
program = exp.create_run_settings(exe="/bin/sleep", exe_args="0.2")
run = exp.start(exp.create_ensemble("cell", replicas=4, run_settings=program))
print(run.status().completed)
exp.close()
"""


def test_a_cell_shows_one_line_that_is_rewritten_in_place(tmp_path: Path) -> None:
    manager, client = jupyter_client.manager.start_new_kernel(kernel_name="python3", cwd=str(tmp_path))
    try:
        client.execute(CELL)
        shown: list[tuple[str, str]] = []
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            message = client.get_iopub_msg(timeout=60)
            content = message["content"]
            if message["msg_type"] in ("display_data", "update_display_data"):
                shown.append((message["msg_type"], content["data"]["text/plain"]))
            elif message["msg_type"] == "stream":
                shown.append((content["name"], content["text"]))
            elif message["msg_type"] == "error":
                raise AssertionError("\n".join(content["traceback"]))
            elif message["msg_type"] == "status" and content["execution_state"] == "idle" and shown:
                break
        kinds = [kind for kind, _ in shown]
        assert kinds.count("display_data") == 1
        assert kinds.count("update_display_data") >= 2
        last = [text for kind, text in shown if kind == "update_display_data"][-1]
        assert "4/4 ended, completed" in last
        assert ("stdout", "4\n") in shown
        assert [text for kind, text in shown if kind == "stderr"] == []
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
