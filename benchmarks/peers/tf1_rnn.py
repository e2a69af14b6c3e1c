"""The old systems' programs as a side: a TensorFlow 1 graph with feed_dict, as S1's and S3's code builds it.

S3 (tensorflow-rnn-shakespeare): one-hot input, MultiRNNCell of GRUCell, dynamic_rnn, linear layer, softmax cross
entropy with one-hot labels, Adam; state fed and fetched. S1 (ptb_word_lm.py): embedding lookup, BasicLSTMCell,
unrolled steps, sampled-nothing softmax, clip_by_global_norm, GradientDescent. The cells are written out here because
tf.nn.rnn_cell is gone; they do what its GRUCell and BasicLSTMCell did (one concatenated product, generic gradients).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import tensorflow.compat.v1 as tf

from benchmarks.common import serve
from benchmarks.peers.workload import WORKLOADS, batches

tf.disable_eager_execution()
tf.disable_control_flow_v2()  # the while loops of TensorFlow 1


def gru_cell(layer, hidden):
    """tf.nn.rnn_cell.GRUCell: state [B, H]."""

    def call(x, h):
        width = x.shape[1] + hidden
        with tf.variable_scope(f"gru_{layer}", reuse=tf.AUTO_REUSE):
            gate_kernel = tf.get_variable("gates/kernel", [width, 2 * hidden])
            gate_bias = tf.get_variable("gates/bias", [2 * hidden], initializer=tf.ones_initializer())
            kernel = tf.get_variable("candidate/kernel", [width, hidden])
            bias = tf.get_variable("candidate/bias", [hidden], initializer=tf.zeros_initializer())
        gates = tf.sigmoid(tf.nn.bias_add(tf.matmul(tf.concat([x, h], 1), gate_kernel), gate_bias))
        r, u = tf.split(gates, 2, axis=1)
        c = tf.tanh(tf.nn.bias_add(tf.matmul(tf.concat([x, r * h], 1), kernel), bias))
        h = u * h + (1 - u) * c
        return h, h

    return call


def lstm_cell(layer, hidden, forget_bias=0.0):
    """tf.nn.rnn_cell.BasicLSTMCell with state_is_tuple=False: state [B, 2H]."""

    def call(x, state):
        c, h = tf.split(state, 2, axis=1)
        with tf.variable_scope(f"lstm_{layer}", reuse=tf.AUTO_REUSE):
            kernel = tf.get_variable("kernel", [x.shape[1] + hidden, 4 * hidden])
            bias = tf.get_variable("bias", [4 * hidden], initializer=tf.zeros_initializer())
        gates = tf.nn.bias_add(tf.matmul(tf.concat([x, h], 1), kernel), bias)
        i, j, f, o = tf.split(gates, 4, axis=1)
        c = c * tf.sigmoid(f + forget_bias) + tf.sigmoid(i) * tf.tanh(j)
        h = tf.tanh(c) * tf.sigmoid(o)
        return h, tf.concat([c, h], 1)

    return call


def stack(cells, widths):
    """MultiRNNCell with state_is_tuple=False: the layers' states side by side."""

    def call(x, state):
        after = []
        for cell, part in zip(cells, tf.split(state, widths, axis=1), strict=True):
            x, part = cell(x, part)
            after.append(part)
        return x, tf.concat(after, 1)

    return call


def dynamic_rnn(cell, inputs, state, hidden):
    """tf.nn.dynamic_rnn: a while loop over TensorArrays. inputs [B, T, n] -> [B, T, H], state."""
    steps, rows = inputs.shape[1], inputs.shape[0]
    source = tf.TensorArray(tf.float32, steps).unstack(tf.transpose(inputs, [1, 0, 2]))
    cell(tf.zeros([rows, inputs.shape[2]]), state)  # variables belong outside of the loop

    def body(t, state, out):
        x = tf.ensure_shape(source.read(t), [rows, inputs.shape[2]])
        y, state = cell(x, state)
        return t + 1, state, out.write(t, y)

    loop = (0, state, tf.TensorArray(tf.float32, steps))
    _, state, out = tf.while_loop(lambda t, *_: t < steps, body, loop, parallel_iterations=32)
    outputs = tf.transpose(out.stack(), [1, 0, 2])
    outputs.set_shape([rows, steps, hidden])
    return outputs, state


def shakespeare(load, x, y, state):
    """S3's graph -> loss (mean over the batch), state, train op, accuracy."""
    widths = [load.hidden_size] * load.num_layers
    cell = stack([gru_cell(i, load.hidden_size) for i in range(load.num_layers)], widths)
    outputs, after = dynamic_rnn(cell, tf.one_hot(x, load.vocabulary_size), state, load.hidden_size)
    flat = tf.reshape(outputs, [-1, load.hidden_size])
    kernel = tf.get_variable("weights", [load.hidden_size, load.vocabulary_size])
    bias = tf.get_variable("biases", [load.vocabulary_size], initializer=tf.zeros_initializer())
    logits = tf.matmul(flat, kernel) + bias
    labels = tf.reshape(tf.one_hot(y, load.vocabulary_size), [-1, load.vocabulary_size])
    losses = tf.nn.softmax_cross_entropy_with_logits(logits=logits, labels=labels)
    train = tf.train.AdamOptimizer(load.learning_rate).minimize(losses)
    predictions = tf.argmax(tf.nn.softmax(logits), 1, output_type=tf.int32)
    accuracy = tf.reduce_mean(tf.cast(tf.equal(tf.reshape(y, [-1]), predictions), tf.float32))
    return tf.reduce_mean(losses), after, train, accuracy


def penn_treebank(load, x, y, state):
    """S1's graph."""
    widths = [2 * load.hidden_size] * load.num_layers
    cell = stack([lstm_cell(i, load.hidden_size) for i in range(load.num_layers)], widths)
    with tf.variable_scope("model", initializer=tf.random_uniform_initializer(-0.1, 0.1)):
        embedding = tf.get_variable("embedding", [load.vocabulary_size, load.hidden_size])
        inputs, outputs = tf.nn.embedding_lookup(embedding, x), []
        for t in range(load.num_steps):
            out, state = cell(inputs[:, t, :], state)
            outputs.append(out)
        output = tf.reshape(tf.concat(outputs, 1), [-1, load.hidden_size])
        kernel = tf.get_variable("softmax_w", [load.hidden_size, load.vocabulary_size])
        bias = tf.get_variable("softmax_b", [load.vocabulary_size])
    logits = tf.matmul(output, kernel) + bias
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=tf.reshape(y, [-1]), logits=logits)
    cost = tf.reduce_sum(losses) / load.batch_size
    variables = tf.trainable_variables()
    gradients, _ = tf.clip_by_global_norm(tf.gradients(cost, variables), load.max_grad_norm)
    train = tf.train.GradientDescentOptimizer(load.learning_rate).apply_gradients(
        zip(gradients, variables, strict=True)
    )
    return cost / load.num_steps, state, train, tf.constant(0.0)


def main() -> None:
    load = WORKLOADS[sys.argv[1]]
    shape = [load.batch_size, load.num_steps]
    x, y = tf.placeholder(tf.int32, shape), tf.placeholder(tf.int32, shape)
    width = load.hidden_size * load.num_layers * (1 if load.cell == "gru" else 2)
    state = tf.placeholder(tf.float32, [load.batch_size, width])
    build = shakespeare if load.cell == "gru" else penn_treebank
    loss, after, train, accuracy = build(load, x, y, state)
    session = tf.Session()
    session.run(tf.global_variables_initializer())
    source, carried = batches(load), np.zeros([load.batch_size, width], np.float32)

    def work() -> int:
        nonlocal carried
        xs, ys = next(source)
        feed = {x: xs, y: ys, state: carried}
        _, carried, _, _ = session.run([loss, after, train, accuracy], feed)
        return xs.size

    serve(work, {"tensorflow": tf.__version__})


if __name__ == "__main__":
    main()
