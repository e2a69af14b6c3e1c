"""First losses of a workload: Textmill's engine, or the plain model (rnn.forward) with automatic differentiation.

python -m benchmarks.peers.reference_rnn WORKLOAD engine|plain STEPS [PRECISION] prints a JSON list.
"""

from __future__ import annotations

import json
import sys

from benchmarks.peers.workload import WORKLOADS, Workload, batches
from textmill.models import get_model, optimizers, rnn
from textmill.models.rnn_tensorflow import RNNEngine, tf


def make_engine(load: Workload, precision: str = "auto", threads: int = 0) -> RNNEngine:
    """The engine of a workload, without dropout."""
    changed = {"hidden_size": load.hidden_size, "num_layers": load.num_layers, "keep_prob": 1.0}
    return RNNEngine(
        get_model(load.model).config(load.preset, load.vocabulary_size, changed),
        batch_size=load.batch_size,
        num_steps=load.num_steps,
        optimizer="adam" if load.cell == "gru" else "sgd",
        max_grad_norm=load.max_grad_norm,
        precision=precision,
        threads=threads,
    )


def plain_losses(load: Workload, steps: int) -> list[float]:
    """The plain model in float32, its gradients by automatic differentiation, the same optimizer."""
    engine = make_engine(load, "float32")  # for its variables and optimizer

    @tf.function(autograph=False)
    def step(x, y):
        weights = {name: variable.read_value() for name, variable in engine.weights.items()}
        state = {name: variable.read_value() for name, variable in engine.state.items()}
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(list(weights.values()))
            logits, after = rnn.forward(engine.config, weights, x, state)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits))
            target = loss * engine.gradient_scale * x.shape[0] * x.shape[1]
        gradients = {
            name: tf.convert_to_tensor(gradient) for name, gradient in tape.gradient(target, weights).items()
        }
        scale = optimizers.clip_scale(gradients, load.max_grad_norm)
        engine.optimizer.apply(gradients, load.learning_rate, scale)
        for name, value in after.items():
            engine.state[name].assign(value)
        return loss

    source = batches(load)
    return [float(step(*(tf.constant(a) for a in next(source)))) for _ in range(steps)]


def engine_losses(load: Workload, steps: int, precision: str) -> list[float]:
    """The fast engine."""
    engine, source = make_engine(load, precision), batches(load)
    return [
        engine.train_step(*next(source), step=i, learning_rate=load.learning_rate)[0] for i in range(steps)
    ]


def main() -> None:
    load, which, steps = WORKLOADS[sys.argv[1]], sys.argv[2], int(sys.argv[3])
    precision = sys.argv[4] if len(sys.argv) > 4 else "auto"
    print(
        json.dumps(plain_losses(load, steps) if which == "plain" else engine_losses(load, steps, precision))
    )


if __name__ == "__main__":
    main()
