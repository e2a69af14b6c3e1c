"""Keras as its users train: layers, compile and fit on batches, stateful; fp32 or mixed_bfloat16 as a side."""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import keras

from benchmarks.common import serve
from benchmarks.peers.workload import WORKLOADS, batches

STEPS = 8  # batches of one call of fit


class OneHot(keras.layers.Layer):
    """Ids -> one-hot vectors."""

    def __init__(self, size) -> None:
        super().__init__()
        self.size = size

    def call(self, ids):
        return keras.ops.one_hot(ids, self.size)


def main() -> None:
    load, mode = WORKLOADS[sys.argv[1]], sys.argv[2]
    if mode == "bf16":
        keras.mixed_precision.set_global_policy("mixed_bfloat16")
    kind = keras.layers.GRU if load.cell == "gru" else keras.layers.LSTM
    first = (
        OneHot(load.vocabulary_size)
        if load.cell == "gru"
        else keras.layers.Embedding(load.vocabulary_size, load.hidden_size)
    )
    inputs = keras.Input(batch_shape=(load.batch_size, load.num_steps), dtype="int32")
    x = first(inputs)
    for _ in range(load.num_layers):
        x = kind(load.hidden_size, return_sequences=True, stateful=True)(x)
    logits = keras.layers.Dense(load.vocabulary_size, dtype="float32")(x)
    model = keras.Model(inputs, logits)
    if load.cell == "gru":
        optimizer = keras.optimizers.Adam(load.learning_rate, epsilon=1e-8)
    else:
        optimizer = keras.optimizers.SGD(load.learning_rate, global_clipnorm=load.max_grad_norm)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"])
    source = batches(load)

    def some():
        for _ in range(STEPS):
            yield next(source)

    def work() -> int:
        model.fit(some(), steps_per_epoch=STEPS, epochs=1, verbose=0)
        return STEPS * load.batch_size * load.num_steps

    serve(work, {"keras": keras.__version__, "mode": mode}, warm_up=1)


if __name__ == "__main__":
    main()
