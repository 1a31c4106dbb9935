from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from taskensemble.ai import Client
from taskensemble.errors import DatabaseError
from taskensemble.ml import DataDownloader, DataInfo, TrainingDataUploader

SINGLE = {"cluster": False}


def uploader(**arguments: object) -> TrainingDataUploader:
    return TrainingDataUploader("data", **(SINGLE | arguments))  # type: ignore[arg-type]


def batch(start: int, size: int = 4) -> tuple[np.ndarray, np.ndarray]:
    samples = np.arange(start, start + size, dtype=np.float32)[:, None]
    return samples, samples * 2


def downloader(**arguments: object) -> DataDownloader:
    defaults = SINGLE | {"batch_size": 2, "wait_interval": 0.05}
    return DataDownloader("data", **(defaults | arguments))  # type: ignore[arg-type]


def test_what_is_published_is_downloaded(client: Client) -> None:
    uploader(sample_name="x", target_name="y", num_classes=3).publish_info()
    info = DataInfo("data")
    info.download(client)
    assert (info.sample_name, info.target_name, info.num_classes) == ("x", "y", 3)
    assert repr(info) == (
        "DataInfo object\nAggregation list name: data\nSample tensor name: x\nTarget tensor name: y\nNumber of classes: 3"
    )


def test_without_what_was_published_the_values_are_kept(client: Client) -> None:
    info = DataInfo("data", "x", "")
    info.download(client)
    assert (info.sample_name, info.target_name, info.num_classes) == ("x", "", None)


def test_batches_come_down_shuffled_with_their_targets(client: Client) -> None:
    up = uploader()
    up.publish_info()
    for i in range(3):
        up.put_batch(*batch(4 * i))
    down = downloader()
    assert len(down) == 6
    seen = []
    for samples, targets in down:
        assert samples.shape == (2, 1)
        assert np.array_equal(targets, samples * 2)
        seen += samples.ravel().tolist()
    assert sorted(seen) == list(range(12))
    assert seen != sorted(seen)


def test_data_grows_while_it_is_used_if_dynamic(client: Client) -> None:
    up = uploader()
    up.put_batch(*batch(0))
    growing, fixed = downloader(shuffle=False), downloader(dynamic=False, shuffle=False)
    up.put_batch(*batch(4))
    assert len(list(growing)) == 4
    assert len(list(fixed)) == 2
    assert [samples.ravel().tolist() for samples, _ in growing] == [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_the_first_data_is_waited_for(client: Client) -> None:
    timer = threading.Timer(0.3, lambda: uploader().put_batch(*batch(0)))
    timer.start()
    assert len(downloader()) == 2
    timer.join()


def test_waiting_ends_after_the_trials(client: Client) -> None:
    start = time.monotonic()
    with pytest.raises(DatabaseError, match="in 2 trials"):
        downloader(max_fetch_trials=2)
    assert time.monotonic() - start < 5


def test_autoencoders_and_samples_alone(client: Client) -> None:
    up = uploader(target_name="samples")
    up.publish_info()
    up.put_batch(batch(0)[0])
    for x, y in downloader():
        assert x is y
    client.flush_db([str(client._topology.addresses()[0])])
    up = uploader(target_name="")
    up.publish_info()
    up.put_batch(batch(0)[0])
    info = DataInfo("data", target_name="")
    assert [x.shape for x in DataDownloader(info, cluster=False, batch_size=4)] == [(4, 1)]


def test_replicas_share_the_uploads(client: Client) -> None:
    up = uploader()
    for i in range(4):
        up.put_batch(*batch(4 * i))
    seen = []
    for rank in range(2):
        for samples, _ in downloader(replica_rank=rank, num_replicas=2, shuffle=False):
            seen.append(samples.ravel().tolist())
    assert seen == [[0, 1], [2, 3], [8, 9], [10, 11], [4, 5], [6, 7], [12, 13], [14, 15]]


def test_several_members_feed_one_trainer(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    for member in range(2):
        monkeypatch.setenv("SSKEYOUT", f"m_{member}")
        uploader(rank=member).put_batch(*batch(4 * member))
    monkeypatch.delenv("SSKEYOUT")
    monkeypatch.setenv("SSKEYIN", "m_0,m_1")
    seen = [value for samples, _ in downloader() for value in samples.ravel().tolist()]
    assert sorted(seen) == list(range(8))


def test_misuse_is_refused(client: Client) -> None:
    with pytest.raises(ValueError, match="list_name"):
        TrainingDataUploader("", cluster=False)
    with pytest.raises(ValueError, match="sample_name"):
        TrainingDataUploader("x", "", cluster=False)
    with pytest.raises(TypeError, match="DataInfo or str"):
        DataDownloader(3, cluster=False)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="init_samples"):
        downloader(init_samples=False).client  # noqa: B018
