"""gpt-2-simple's own training graph as a side: python benchmarks/peers/gpt2_simple_training.py BATCH

Its model and session, and the loss, optimizer and feeding of its `finetune`; with `losses STEPS WEIGHTS.npz` in place
of BATCH it prints the first losses of the small model from those weights as a JSON list.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import gpt_2_simple as gpt2
import numpy as np
import tensorflow as tf
from gpt_2_simple.src import model

from benchmarks.common import serve
from benchmarks.peers.gpt2_workload import LEARNING_RATE, SIZES, SMALL, batches


class Training:
    """What `finetune` builds: placeholder, model, mean loss over all but the last token, Adam over all variables."""

    def __init__(self, sizes, batch_size) -> None:
        self.session = gpt2.start_tf_sess()
        hparams = model.default_hparams()
        hparams.override_from_dict(
            {
                "n_vocab": sizes["vocabulary_size"],
                "n_ctx": sizes["context"],
                "n_embd": sizes["width"],
                "n_head": sizes["num_heads"],
                "n_layer": sizes["num_layers"],
            }
        )
        self.context = tf.compat.v1.placeholder(tf.int32, [batch_size, None])
        logits = model.model(hparams=hparams, X=self.context)["logits"]
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=self.context[:, 1:], logits=logits[:, :-1]
        )
        self.loss = tf.reduce_mean(losses)
        self.variables = tf.compat.v1.trainable_variables()
        optimizer = tf.compat.v1.train.AdamOptimizer(learning_rate=LEARNING_RATE)
        gradients = tf.gradients(ys=self.loss, xs=self.variables)
        self.apply = optimizer.apply_gradients(list(zip(gradients, self.variables, strict=True)))
        self.session.run(tf.compat.v1.global_variables_initializer())

    def load(self, weights) -> None:
        """Take over arrays named as in textmill.models.gpt2."""
        for variable in self.variables:
            value = weights[variable.op.name.removeprefix("model/")]
            variable.load(value.reshape(variable.shape), self.session)

    def step(self, tokens) -> float:
        """One step; the loss before it."""
        return self.session.run((self.apply, self.loss), feed_dict={self.context: tokens})[1]


def main() -> None:
    if sys.argv[1] == "losses":
        training = Training(SMALL, 2)
        training.load(np.load(sys.argv[3]))
        source = batches(2, SMALL["vocabulary_size"], SMALL["context"])
        print(json.dumps([float(training.step(next(source))) for _ in range(int(sys.argv[2]))]))
        return
    size = int(sys.argv[1])
    training = Training(SIZES, size)
    source = batches(size, SIZES["vocabulary_size"], SIZES["context"])

    def work() -> int:
        tokens = next(source)
        training.step(tokens)
        return tokens.size

    about = {"tensorflow": tf.__version__, "gpt-2-simple": importlib.metadata.version("gpt-2-simple")}
    serve(work, about, warm_up=1)


if __name__ == "__main__":
    main()
