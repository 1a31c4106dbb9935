from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

keras = pytest.importorskip("keras")
pytest.importorskip("tensorflow")

from taskensemble.ai import Client  # noqa: E402
from taskensemble.ml import DataInfo, TrainingDataUploader  # noqa: E402
from taskensemble.ml.tf import DynamicDataGenerator, StaticDataGenerator, freeze_model, serialize_model  # noqa: E402


def convolutions() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.Dropout(0.5),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )


def two_inputs() -> keras.Model:
    a, b = keras.Input((3,), name="first"), keras.Input((3,), name="second")
    return keras.Model([a, b], [keras.layers.Add()([a, b]), keras.layers.Subtract()([a, b])])


@pytest.mark.parametrize("how", ["memory", "file"])
def test_a_keras_model_runs_in_the_database(client: Client, how: str, tmp_path: Path) -> None:
    model = convolutions()
    if how == "memory":
        graph, inputs, outputs = serialize_model(model)
        client.set_model("cnn", graph, "TF", inputs=inputs, outputs=outputs)
    else:
        path, inputs, outputs = freeze_model(model, str(tmp_path / "new"), "cnn")
        assert Path(path) == tmp_path / "new" / "cnn.pb"
        client.set_model_from_file("cnn", path, "TF", inputs=inputs, outputs=outputs)
    for size in (1, 5):
        x = np.random.default_rng(1).random((size, 8, 8, 1)).astype(np.float32)
        client.put_tensor("x", x)
        client.run_model("cnn", ["x"], ["y"])
        assert np.allclose(client.get_tensor("y"), model(x, training=False).numpy(), atol=1e-5)


def test_several_inputs_and_outputs_keep_their_order(client: Client) -> None:
    graph, inputs, outputs = serialize_model(two_inputs())
    assert (len(inputs), len(outputs)) == (2, 2)
    client.set_model("two", graph, "TF", inputs=inputs, outputs=outputs)
    client.put_tensor("a", np.full((1, 3), 5, np.float32))
    client.put_tensor("b", np.full((1, 3), 2, np.float32))
    client.run_model("two", ["a", "b"], ["sum", "difference"])
    assert client.get_tensor("sum").tolist() == [[7.0] * 3]
    assert client.get_tensor("difference").tolist() == [[3.0] * 3]


def test_a_model_that_does_not_know_its_inputs_is_refused() -> None:
    with pytest.raises(ValueError, match="build it"):
        serialize_model(keras.Sequential([keras.layers.Dense(1)]))


def test_keras_trains_on_data_that_grows(client: Client) -> None:
    up = TrainingDataUploader("data", cluster=False)
    x = np.random.default_rng(1).random((8, 2)).astype(np.float32)
    up.put_batch(x, (x[:, 0] > 0.5).astype(np.int32))
    info = DataInfo("data", num_classes=2)
    fixed = StaticDataGenerator(data_info_or_list_name=info, cluster=False, batch_size=4)
    growing = DynamicDataGenerator(data_info_or_list_name=info, cluster=False, batch_size=4)
    up.put_batch(x, (x[:, 0] > 0.5).astype(np.int32))
    assert fixed[0][1].shape == (4, 2)
    assert len(growing) == 2
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, activation="softmax")])
    model.compile("adam", "categorical_crossentropy")
    history = model.fit(growing, epochs=3, verbose=0)
    assert len(history.history["loss"]) == 3
    assert len(growing) == 4
    fixed.on_epoch_end()
    assert len(fixed) == 2
