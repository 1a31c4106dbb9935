"""Writes TensorFlow and LiteRT models, good and bad, into a folder: `python build_tf_models.py FOLDER`.

A program of its own, because torch and TensorFlow never share a process.
"""

from __future__ import annotations

import io
import os
import sys
import tarfile
import zipfile
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

folder = Path(sys.argv[1])


class Sound(tf.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = tf.Variable(np.arange(12, dtype=np.float32).reshape(4, 3))

    @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32, name="x")])
    def serve(self, x):
        return {"product": tf.matmul(x, self.weight), "sum": tf.reduce_sum(x, axis=1)}


class Reader(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec((), tf.string, name="path")])
    def serve(self, path):
        return {"content": tf.io.read_file(path)}


class Saver(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec((), tf.string, name="path")])
    def serve(self, path):
        tf.raw_ops.SaveV2(prefix=path, tensor_names=["a"], shape_and_slices=[""], tensors=[tf.zeros(1)])
        return {"done": tf.constant(1.0)}


def saved(module: tf.Module, name: str) -> Path:
    target = folder / name
    tf.saved_model.save(module, str(target), signatures=module.serve)
    return target


def tarred(source: Path, prefix: str = "model") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as packed:
        packed.add(source, arcname=prefix)
    return buffer.getvalue()


def zipped(source: Path, prefix: str = "") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        for path in source.rglob("*"):
            packed.write(path, prefix + str(path.relative_to(source)))
    return buffer.getvalue()


def frozen_graph() -> bytes:
    module = Sound()
    frozen = convert_variables_to_constants_v2(module.serve.get_concrete_function())
    graph = frozen.graph.as_graph_def()
    names = [tensor.name.partition(":")[0] for tensor in (*frozen.inputs, *frozen.outputs)]
    (folder / "frozen.names").write_text(" ".join(names))
    return graph.SerializeToString()


def graph_of(build) -> bytes:
    graph = tf.Graph()
    with graph.as_default():
        build()
    return graph.as_graph_def().SerializeToString()


def reading() -> None:
    tf.identity(tf.io.read_file(tf.compat.v1.placeholder(tf.string, (), name="path")), name="content")


def reading_in_a_function() -> None:
    @tf.function(input_signature=[tf.TensorSpec((), tf.string)])
    def inner(path):
        return tf.io.read_file(path)

    tf.identity(inner(tf.compat.v1.placeholder(tf.string, (), name="path")), name="content")


def writing() -> None:
    with tf.control_dependencies([tf.io.write_file(tf.compat.v1.placeholder(tf.string, (), name="path"), "x")]):
        tf.constant(1.0, name="content")


def calling_python() -> None:
    tf.compat.v1.py_func(
        lambda path: path, [tf.compat.v1.placeholder(tf.string, (), name="path")], tf.string, name="content"
    )


def upper() -> None:
    tf.strings.upper(tf.compat.v1.placeholder(tf.string, (None,), name="path"), name="content")


def with_a_forgotten_reader() -> None:
    tf.io.read_file(tf.constant("/etc/hostname"), name="forgotten")
    upper()


sound = saved(Sound(), "sound")
(folder / "frozen.pb").write_bytes(frozen_graph())
(folder / "saved.tar").write_bytes(tarred(sound))
(folder / "saved.zip").write_bytes(zipped(sound))
(folder / "upper.pb").write_bytes(graph_of(upper))
(folder / "forgotten.pb").write_bytes(graph_of(with_a_forgotten_reader))
for build in (reading, reading_in_a_function, writing, calling_python):
    (folder / f"evil_{build.__name__}.pb").write_bytes(graph_of(build))
(folder / "evil_saved_reader.tar").write_bytes(tarred(saved(Reader(), "reader")))
(folder / "evil_saved_saver.tar").write_bytes(tarred(saved(Saver(), "saver")))
(folder / "evil_path.zip").write_bytes(zipped(sound, "../"))
(folder / "evil_path.tar").write_bytes(tarred(sound, "../../model"))
link = io.BytesIO()
with tarfile.open(fileobj=link, mode="w") as packed:
    info = tarfile.TarInfo("variables")
    info.type, info.linkname = tarfile.SYMTYPE, "/etc"
    packed.addfile(info)
    packed.add(sound, arcname=".")
(folder / "evil_link.tar").write_bytes(link.getvalue())

dense = tf.keras.Sequential([tf.keras.Input((4,)), tf.keras.layers.Dense(3)])
(folder / "dense.tflite").write_bytes(tf.lite.TFLiteConverter.from_keras_model(dense).convert())
x = np.linspace(0, 1, 8, dtype=np.float32).reshape(2, 4)
np.save(folder / "x.npy", x)
np.save(folder / "dense.npy", dense(x).numpy())


def lite_reading() -> bytes:
    """ReadFile as TensorFlow's converter leaves it: a custom operator by name."""
    converter = tf.lite.TFLiteConverter.from_concrete_functions([Reader().serve.get_concrete_function()])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
    converter.allow_custom_ops = True
    return converter.convert()


(folder / "evil_reading.tflite").write_bytes(lite_reading())
