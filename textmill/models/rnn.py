"""The recurrent family, char-GRU and word-LSTM: configuration, parameters and the plain model in keras.ops.

`forward` and `step` are the reference: short, on any Keras backend, and what the fast engines are tested against.
Knows the arithmetic and the names and shapes of the parameters; knows nothing of training, tokenizers or files.

Parameters are a dict of float32 arrays (V vocabulary, H hidden, G gates: 3 for a GRU, 4 for an LSTM):

    embedding                   [V, H]      only with embedding="learned"
    layer{i}/input_kernel       [in, G*H]   in = H, or V for layer 0 with one-hot input: its rows are then looked up
    layer{i}/recurrent_kernel   [H, G*H]
    layer{i}/bias               [G*H]
    output/kernel, output/bias  [H, V], [V]

State is a dict "layer{i}/h" [B, H], and "layer{i}/c" [B, H] for an LSTM.

The cells are TensorFlow 1's. GRUCell, gates r, u, c, reset before the product: c = tanh(x Wc + (r*h) Uc + b),
h' = u*h + (1-u)*c. BasicLSTMCell, gates i, j, f, o: c' = c*sigmoid(f + forget_bias) + sigmoid(i)*tanh(j),
h' = tanh(c')*sigmoid(o).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from textmill.settings import Settings, setting

GATES = {"gru": 3, "lstm": 4}

Arrays = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class RNNConfig(Settings):
    """Sizes and arithmetic of a recurrent language model."""

    cell: str = setting("gru", "Recurrent cell.", choices=("gru", "lstm"))
    vocabulary_size: int = setting(98, "Number of tokens the model knows.", minimum=2)
    num_layers: int = setting(2, "Recurrent layers.", minimum=1, maximum=16)
    hidden_size: int = setting(256, "Units of each layer.", minimum=1)
    embedding: str = setting(
        "one_hot", "Input: one_hot characters, or a learned embedding.", choices=("one_hot", "learned")
    )
    keep_prob: float = setting(
        1.0, "Probability that dropout keeps a unit; 1 is no dropout.", minimum=0.01, maximum=1.0
    )
    init_scale: float = setting(
        0.0, "Uniform(-init_scale, init_scale) initial weights; 0 is Glorot uniform.", minimum=0.0
    )
    forget_bias: float = setting(0.0, "Added to an LSTM's forget gate.")

    @property
    def gates(self) -> int:
        """Gates of the cell."""
        return GATES[self.cell]

    def input_size(self, layer: int) -> int:
        """Rows of a layer's input kernel."""
        return self.vocabulary_size if layer == 0 and self.embedding == "one_hot" else self.hidden_size


def parameter_shapes(config: RNNConfig) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every parameter, in the order in which they are drawn and saved."""
    hidden, vocabulary, gates = config.hidden_size, config.vocabulary_size, config.gates
    shapes: dict[str, tuple[int, ...]] = {}
    if config.embedding == "learned":
        shapes["embedding"] = (vocabulary, hidden)
    for layer in range(config.num_layers):
        shapes[f"layer{layer}/input_kernel"] = (config.input_size(layer), gates * hidden)
        shapes[f"layer{layer}/recurrent_kernel"] = (hidden, gates * hidden)
        shapes[f"layer{layer}/bias"] = (gates * hidden,)
    shapes["output/kernel"] = (hidden, vocabulary)
    shapes["output/bias"] = (vocabulary,)
    return shapes


def parameter_count(config: RNNConfig) -> int:
    """Number of trained values."""
    return sum(int(np.prod(shape)) for shape in parameter_shapes(config).values())


def state_names(config: RNNConfig) -> list[str]:
    """Names of the state arrays, in order."""
    parts = ("h",) if config.cell == "gru" else ("c", "h")
    return [f"layer{layer}/{part}" for layer in range(config.num_layers) for part in parts]


def init(config: RNNConfig, seed: int = 0) -> dict[str, np.ndarray]:
    """Fresh parameters; the same seed gives the same bits on any machine.

    With `init_scale` all but the cells' biases are uniform in it, as in TensorFlow's PTB model; without, kernels are
    Glorot uniform over the fused matrix that TensorFlow 1's cells keep. A GRU's r and u start with bias 1.
    """
    params = {}
    for index, (name, shape) in enumerate(parameter_shapes(config).items()):
        draw = np.random.default_rng([seed, index])
        params[name] = _initial(config, name, shape, draw).astype(np.float32)
    return params


def _initial(config: RNNConfig, name: str, shape: tuple[int, ...], draw: np.random.Generator) -> np.ndarray:
    if name.startswith("layer") and name.endswith("bias"):
        return _cell_bias(config)
    if config.init_scale:
        return draw.uniform(-config.init_scale, config.init_scale, shape)
    if name == "output/bias":
        return np.zeros(shape)
    return draw.uniform(-1.0, 1.0, shape) * _glorot_limits(config, name, shape)


def _cell_bias(config: RNNConfig) -> np.ndarray:
    bias = np.zeros(config.gates * config.hidden_size)
    if config.cell == "gru":
        bias[: 2 * config.hidden_size] = 1.0
    return bias


def _glorot_limits(config: RNNConfig, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Limit of each column: TensorFlow 1 draws [input; recurrent] as one matrix, and a GRU's candidate apart."""
    hidden = config.hidden_size
    if not name.startswith("layer"):
        return np.full(shape[-1], np.sqrt(6.0 / sum(shape)))
    rows = config.input_size(int(name[len("layer") : name.index("/")])) + hidden
    widths = (2 * hidden, hidden) if config.cell == "gru" else (4 * hidden,)
    return np.concatenate([np.full(width, np.sqrt(6.0 / (rows + width))) for width in widths])


def initial_state(config: RNNConfig, batch: int) -> dict[str, np.ndarray]:
    """Zero state for `batch` rows."""
    return {name: np.zeros((batch, config.hidden_size), np.float32) for name in state_names(config)}


def gru_cell(projected: Any, h: Any, kernel: Any) -> Any:
    """One step of TensorFlow 1's GRUCell: `projected` x W + b [B, 3H], h [B, H] -> h' [B, H]."""
    from keras import ops

    width = 2 * h.shape[-1]
    gates = ops.sigmoid(projected[:, :width] + ops.matmul(h, kernel[:, :width]))
    r, u = ops.split(gates, 2, axis=-1)
    candidate = ops.tanh(projected[:, width:] + ops.matmul(r * h, kernel[:, width:]))
    return u * h + (1.0 - u) * candidate


def lstm_cell(projected: Any, c: Any, h: Any, kernel: Any, forget_bias: float) -> tuple[Any, Any]:
    """One step of TensorFlow 1's BasicLSTMCell: `projected` [B, 4H], c and h [B, H] -> c', h'."""
    from keras import ops

    i, j, f, o = ops.split(projected + ops.matmul(h, kernel), 4, axis=-1)
    c = c * ops.sigmoid(f + forget_bias) + ops.sigmoid(i) * ops.tanh(j)
    return c, ops.tanh(c) * ops.sigmoid(o)


def step(
    config: RNNConfig,
    params: Mapping[str, Any],
    token: Any,
    state: Mapping[str, Any],
    dropout: Sequence[Any] | None = None,
) -> tuple[Any, Arrays]:
    """One time step: token [B] ids and the state before it -> logits [B, V] and the state after it.

    `dropout` holds num_layers + 1 masks (0 or 1/keep_prob): one for each layer's input and one for the last layer's
    output, [B, H]; [B, 1] for a one-hot input, where dropping the one element that is set drops the character.
    """
    from keras import ops

    masks: Sequence[Any] = dropout if dropout is not None else [1.0] * (config.num_layers + 1)
    after: Arrays = {}
    x: Any = ops.take(params["embedding"], token, axis=0) if config.embedding == "learned" else None
    for layer, mask in zip(range(config.num_layers), masks, strict=False):
        kernel, bias = params[f"layer{layer}/input_kernel"], params[f"layer{layer}/bias"]
        projected = mask * ops.take(kernel, token, axis=0) if x is None else ops.matmul(x * mask, kernel)
        recurrent, h = params[f"layer{layer}/recurrent_kernel"], state[f"layer{layer}/h"]
        if config.cell == "gru":
            x = gru_cell(projected + bias, h, recurrent)
        else:
            c = state[f"layer{layer}/c"]
            after[f"layer{layer}/c"], x = lstm_cell(projected + bias, c, h, recurrent, config.forget_bias)
        after[f"layer{layer}/h"] = x
    logits = ops.matmul(x * masks[-1], params["output/kernel"]) + params["output/bias"]
    return logits, after


def forward(
    config: RNNConfig,
    params: Mapping[str, Any],
    tokens: Any,
    state: Mapping[str, Any],
    dropout: Sequence[Any] | None = None,
) -> tuple[Any, Arrays]:
    """Tokens [B, T] and the state before them -> logits [B, T, V] and the state after them.

    `dropout`: masks as in `step` with a time axis, [B, T, H] ([B, T, 1] for a one-hot input).
    """
    from keras import ops

    logits, now = [], dict(state)
    for t in range(tokens.shape[1]):
        masks = None if dropout is None else [mask[:, t] for mask in dropout]
        row, now = step(config, params, tokens[:, t], now, masks)
        logits.append(row)
    return ops.stack(logits, axis=1), now
