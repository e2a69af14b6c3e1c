"""Recurrent layers and softmax loss as TensorFlow graphs whose backward passes are written by hand.

Arrays are time-major and flat: [T*B, width], the B rows of step 0 first. The steps are unrolled; the input products of
all steps are one product; so are the weight gradients, with the bias as one more row. The state carries no gradient
into a layer or out of it (truncated back-propagation).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from textmill import devices

tf = devices.tensorflow()

Tensor = Any
Product = Callable[..., Tensor]


def product_in(precision: str) -> Product:
    """tf.matmul with operands in this precision; results and everything else stay float32."""
    if precision == "float32":
        return tf.matmul

    def product(left: Tensor, right: Tensor, **transpositions: bool) -> Tensor:
        low = tf.matmul(tf.cast(left, tf.bfloat16), tf.cast(right, tf.bfloat16), **transpositions)
        return tf.cast(low, tf.float32)

    return product


class NarrowProduct:
    """x K and x K^T for an x of few rows, each in the memory layout in which it takes least time.

    Rows whose distance is a multiple of 1 KB fall into the same cache sets when they are packed; then the transposed
    operand is the better one, otherwise the plain one (40 % and 20 % on an AVX2 CPU).
    """

    def __init__(self, product: Product, kernel: Tensor) -> None:
        self.product, self.kernel = product, kernel
        self.turned = _turned(kernel)
        self.collide = kernel.shape[0] % 256 == 0

    def forth(self, x: Tensor) -> Tensor:
        """x [B, n] -> x K [B, m]."""
        if self.collide:
            return self.product(x, self.turned, transpose_b=True)
        return self.product(x, self.kernel)

    def back(self, x: Tensor) -> Tensor:
        """x [B, m] -> x K^T [B, n]."""
        if self.collide:
            return self.product(x, self.kernel, transpose_b=True)
        return self.product(x, self.turned)


class GRUSteps:
    """TensorFlow 1's GRUCell over all steps. Columns: [r, u] from h, then c from r*h."""

    pieces = (2, 1)

    def forward(
        self, inputs: Sequence[Sequence[Tensor]], state: Sequence[Tensor], kernels: Sequence[NarrowProduct]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Per-step projections of [r, u] and c, and (h,) -> h of every step and (h,) behind them."""
        gate_kernel, candidate_kernel = kernels
        self.before, self.gates, self.candidates, self.reset = [state[0]], [], [], []
        for gate_input, candidate_input in zip(*inputs, strict=True):
            h = self.before[-1]
            both = tf.sigmoid(gate_input + gate_kernel.forth(h))
            r, u = tf.split(both, 2, axis=1)
            reset = r * h
            candidate = tf.tanh(candidate_input + candidate_kernel.forth(reset))
            self.gates.append((both, r, u))
            self.reset.append(reset)
            self.candidates.append(candidate)
            self.before.append(candidate + u * (h - candidate))
        return self.before[1:], self.before[-1:]

    def backward(
        self, d_outputs: Sequence[Tensor], kernels: Sequence[NarrowProduct]
    ) -> list[tuple[list[Tensor], list[Tensor]]]:
        """Gradient of each step's h -> for each piece and step: left operand of its kernel, d of its projection."""
        gate_kernel, candidate_kernel = kernels
        d_gates, d_candidates, d_next = [], [], None
        for t in reversed(range(len(d_outputs))):
            d_h = d_outputs[t] if d_next is None else d_outputs[t] + d_next
            (both, r, u), candidate, h = self.gates[t], self.candidates[t], self.before[t]
            d_kept = d_h * u
            d_candidates.append(tf.raw_ops.TanhGrad(y=candidate, dy=d_h - d_kept))
            d_reset = candidate_kernel.back(d_candidates[-1])
            d_both = tf.concat([d_reset * h, d_h * (h - candidate)], axis=1)
            d_gates.append(tf.raw_ops.SigmoidGrad(y=both, dy=d_both))
            d_next = d_kept + d_reset * r + gate_kernel.back(d_gates[-1])
        return [(self.before[:-1], d_gates[::-1]), (self.reset, d_candidates[::-1])]


class LSTMSteps:
    """TensorFlow 1's BasicLSTMCell over all steps, the forget bias in the projections. Columns: [i, j, f, o] from h."""

    pieces = (4,)

    def forward(
        self, inputs: Sequence[Sequence[Tensor]], state: Sequence[Tensor], kernels: Sequence[NarrowProduct]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Per-step projections, and (c, h) -> h of every step and (c, h) behind them."""
        self.cs, self.hs, self.gates = [state[0]], [state[1]], []
        for gate_input in inputs[0]:
            i, j, f, o = tf.split(gate_input + kernels[0].forth(self.hs[-1]), 4, axis=1)
            i, j, f, o = tf.sigmoid(i), tf.tanh(j), tf.sigmoid(f), tf.sigmoid(o)
            self.cs.append(self.cs[-1] * f + i * j)
            squashed = tf.tanh(self.cs[-1])
            self.hs.append(squashed * o)
            self.gates.append((i, j, f, o, squashed))
        return self.hs[1:], [self.cs[-1], self.hs[-1]]

    def backward(
        self, d_outputs: Sequence[Tensor], kernels: Sequence[NarrowProduct]
    ) -> list[tuple[list[Tensor], list[Tensor]]]:
        """As GRUSteps.backward."""
        d_inputs, d_h_next, d_c_next = [], None, None
        for t in reversed(range(len(d_outputs))):
            i, j, f, o, squashed = self.gates[t]
            d_h = d_outputs[t] if d_h_next is None else d_outputs[t] + d_h_next
            through = tf.raw_ops.TanhGrad(y=squashed, dy=d_h * o)
            d_c = through if d_c_next is None else d_c_next + through
            gate_gradients = [
                tf.raw_ops.SigmoidGrad(y=i, dy=d_c * j),
                tf.raw_ops.TanhGrad(y=j, dy=d_c * i),
                tf.raw_ops.SigmoidGrad(y=f, dy=d_c * self.cs[t]),
                tf.raw_ops.SigmoidGrad(y=o, dy=d_h * squashed),
            ]
            d_inputs.append(tf.concat(gate_gradients, axis=1))
            d_c_next = d_c * f
            d_h_next = kernels[0].back(d_inputs[-1])
        return [(self.hs[:-1], d_inputs[::-1])]


CELLS: dict[str, type[GRUSteps] | type[LSTMSteps]] = {"gru": GRUSteps, "lstm": LSTMSteps}


class _Dense:
    """A layer's input x [N, in]."""

    def __init__(self, product: Product, x: Tensor) -> None:
        self.product, self.x = product, x

    def project(self, kernel: Tensor) -> Tensor:
        """x W [N, width]."""
        return self.product(self.x, kernel)

    def gradients(self, left: Tensor, d_projected: Tensor, kernel: Tensor) -> tuple[Tensor | None, ...]:
        """Of x, input kernel, recurrent kernel (whose left operand is `left` [N, H]) and bias."""
        ones = tf.ones_like(left[:, :1])
        sizes = [self.x.shape[1], left.shape[1], 1]
        together = self.product(tf.concat([self.x, left, ones], axis=1), d_projected, transpose_a=True)
        d_input, d_kernel, d_bias = tf.split(together, sizes)
        return self.product(d_projected, kernel, transpose_b=True), d_input, d_kernel, d_bias[0]


class _OneHot:
    """A layer's one-hot input as ids [N], with a dropout mask [N, 1] or None: rows of its kernel are looked up."""

    def __init__(self, product: Product, ids: Tensor, mask: Tensor | None) -> None:
        self.product, self.ids, self.mask = product, ids, mask

    def project(self, kernel: Tensor) -> Tensor:
        """The kernel's rows [N, width]."""
        return self._masked(tf.gather(kernel, self.ids))

    def gradients(self, left: Tensor, d_projected: Tensor, kernel: Tensor) -> tuple[Tensor | None, ...]:
        """As _Dense.gradients; ids have none."""
        together = self.product(
            tf.concat([left, tf.ones_like(left[:, :1])], axis=1), d_projected, transpose_a=True
        )
        d_kernel, d_bias = tf.split(together, [left.shape[1], 1])
        d_input = tf.math.unsorted_segment_sum(self._masked(d_projected), self.ids, kernel.shape[0])
        return None, d_input, d_kernel, d_bias[0]

    def _masked(self, rows: Tensor) -> Tensor:
        return rows if self.mask is None else rows * self.mask


def recurrent_layer(
    cell: str,
    product: Product,
    steps: int,
    x: Tensor,
    state: Sequence[Tensor],
    weights: Sequence[Tensor],
    mask: Tensor | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """One layer: x [T*B, in], state arrays [B, H] -> outputs [T*B, H] and the state behind them.

    `weights` are input kernel, recurrent kernel and bias. A one-hot x is given as ids [T*B] and `mask` [T*B, 1].
    """
    run_cell = CELLS[cell]()
    widths = [pieces * weights[1].shape[0] for pieces in run_cell.pieces]

    @tf.custom_gradient
    def run(x: Tensor, *weights: Tensor) -> Any:
        source = _OneHot(product, x, mask) if x.dtype.is_integer else _Dense(product, x)
        input_kernels, kernels, biases = (tf.split(weight, widths, axis=-1) for weight in weights)
        narrow = [NarrowProduct(product, kernel) for kernel in kernels]
        projected = [
            tf.split(source.project(kernel) + bias, steps)
            for kernel, bias in zip(input_kernels, biases, strict=True)
        ]
        outputs, after = run_cell.forward(projected, state, narrow)

        def gradient(d_outputs: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
            pieces = run_cell.backward(tf.split(d_outputs, steps), narrow)
            found = [
                source.gradients(tf.concat(left, axis=0), tf.concat(d_projected, axis=0), kernel)
                for (left, d_projected), kernel in zip(pieces, input_kernels, strict=True)
            ]
            d_xs, *d_weights = zip(*found, strict=True)
            d_x = None if d_xs[0] is None else tf.add_n(d_xs)
            return d_x, *(tf.concat(parts, axis=-1) for parts in d_weights)

        return (tf.concat(outputs, axis=0), *after), gradient

    outputs, *after = run(x, *weights)
    return outputs, after


def softmax_loss(
    product: Product, h: Tensor, kernel: Tensor, bias: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """h [N, H], labels [N] -> exact softmax losses [N] in nats, and whether the label was the likeliest [N].

    One [N, V] array, exp(logits - their maximum), serves loss and gradient: the division by its sum is done to the
    narrow factors of the gradient's products. The bias is one more row of the kernel, with 1 as its input.
    """

    @tf.custom_gradient
    def run(h: Tensor, kernel: Tensor, bias: Tensor) -> Any:
        inputs = tf.concat([h, tf.ones_like(h[:, :1])], axis=1)
        logits = product(inputs, tf.concat([kernel, bias[None]], axis=0))
        peak = tf.reduce_max(logits, axis=1)
        chosen = tf.gather(logits, labels, axis=1, batch_dims=1)
        powers = tf.exp(logits - peak[:, None])
        total = tf.reduce_sum(powers, axis=1)

        def gradient(upstream: Tensor, _: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            difference = _subtract_at(powers, labels, total)  # (softmax - one_hot) * total
            weight = (upstream / total)[:, None]
            d_h = weight * product(difference, kernel, transpose_b=True)
            together = product(_turned(inputs * weight), difference)
            return d_h, together[:-1], together[-1]

        return (tf.math.log(total) + peak - chosen, chosen >= peak), gradient

    losses, correct = run(h, kernel, bias)
    return losses, correct


def _subtract_at(values: Tensor, columns: Tensor, amounts: Tensor) -> Tensor:
    """values [N, V] - amounts [N] at columns [N], one a row; in place, so nothing else may read `values` after it."""
    count, width = tf.shape(values)[0], values.shape[1]
    flat = tf.reshape(values, [-1, 1])
    changed = tf.raw_ops.InplaceSub(x=flat, i=tf.range(count) * width + columns, v=amounts[:, None])
    return tf.reshape(changed, [-1, width])


def _turned(matrix: Tensor) -> Tensor:
    """Its transpose, laid out in memory: DeepCopy keeps the graph optimizer from folding it into a product."""
    return tf.raw_ops.DeepCopy(x=tf.transpose(matrix))
