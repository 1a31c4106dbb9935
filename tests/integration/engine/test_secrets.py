"""A secret in a member's environment reaches the member, and nothing that anybody looks at."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from taskensemble import Experiment
from tests.integration.engine.plane import Plane, until

SECRET = "xyzzy-17"


def keys_with(client: redis.Redis, text: str) -> list[str]:
    """Names of the keys whose value has the text in it."""
    names = [key for key in client.scan_iter("*") if text.encode() in (client.dump(key) or b"")]
    return [name.decode() for name in names]


def test_a_secret_reaches_the_member_and_no_record(
    plane: Plane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRIVER_TOKEN", SECRET)
    client = redis.Redis.from_url(plane.broker_url)
    client.config_set("hash-max-listpack-entries", 512)
    with Experiment("exp", exp_path=tmp_path, broker=plane.broker_url, export_env=["DRIVER_TOKEN"]) as exp:
        settings = exp.create_run_settings("/bin/sh", ["-c", "env; exit 3"], env_vars={"API_KEY": SECRET})
        model = exp.create_model("model", settings)
        handle = exp.start(model, block=False)
        assert [key.rpartition(":")[2] for key in keys_with(client, SECRET)] == ["secrets"]
        monkeypatch.delenv("DRIVER_TOKEN")
        plane.worker("--slots", "1", "--log-level", "DEBUG")
        plane.finish(handle.run_id)
        output = (tmp_path / "model" / "model.out").read_text()
        assert f"API_KEY={SECRET}" in output
        assert f"DRIVER_TOKEN={SECRET}" in output
        assert SECRET not in plane.log("w0")
        # Kept for `resume`, which runs it again with the same values; gone with the run that completes.
        (tmp_path / "model" / "model.out").unlink()
        again = exp.resume(handle.run_id, quiet=True)
        assert f"API_KEY={SECRET}" in (tmp_path / "model" / "model.out").read_text()
        assert {key.split("}")[0] for key in keys_with(client, SECRET)} == {
            f"te:{{{r}" for r in (handle.run_id, again.run_id)
        }
        good = exp.create_model("good", exp.create_run_settings("/bin/true", env_vars={"API_KEY": SECRET}))
        done = exp.start(good, quiet=True)
        until(lambda: not client.exists(f"te:{{{done.run_id}}}:secrets"), "the secret is gone with the run")
    client.close()
