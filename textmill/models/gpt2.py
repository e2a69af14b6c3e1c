"""GPT-2: configuration, parameters and the plain model in NumPy.

`forward` is the reference: short, float32, and what the fast engines are tested against. Knows the arithmetic and the
names and shapes of the parameters; knows nothing of training, tokenizers or files.

Parameters are a dict of float32 arrays under OpenAI's names without "model/" (openai/gpt-2, src/model.py); V is the
vocabulary, C the context, E the width. Where OpenAI's files have [1, in, out], arrays here are [in, out]:

    wte [V, E]   wpe [C, E]
    h{i}/ln_1/{g,b} [E]   h{i}/attn/c_attn/{w [E, 3E], b [3E]}   h{i}/attn/c_proj/{w [E, E], b [E]}
    h{i}/ln_2/{g,b} [E]   h{i}/mlp/c_fc/{w [E, 4E], b [4E]}      h{i}/mlp/c_proj/{w [4E, E], b [E]}
    ln_f/{g,b} [E]

The layer norm comes before each half of a block, the GELU is the tanh approximation, the output matrix is wte.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from textmill.errors import SettingsError
from textmill.settings import Settings, setting

Array = npt.NDArray[np.float32]
Arrays = dict[str, Array]

LAYER_NORM_EPSILON = 1e-5


@dataclasses.dataclass(frozen=True)
class GPT2Config(Settings):
    """Sizes of a GPT-2. OpenAI's hparams.json calls them n_vocab, n_ctx, n_embd, n_head, n_layer."""

    vocabulary_size: int = setting(50257, "Number of tokens the model knows.", minimum=2)
    context: int = setting(1024, "Most tokens the model sees at once.", minimum=2)
    width: int = setting(768, "Width of the residual stream.", minimum=1)
    num_heads: int = setting(12, "Attention heads; they divide the width.", minimum=1)
    num_layers: int = setting(12, "Blocks.", minimum=1, maximum=200)

    def check(self) -> None:
        if self.width % self.num_heads:
            raise SettingsError(
                f"setting 'width' is {self.width} and 'num_heads' {self.num_heads}; the heads must divide the width."
            )

    @property
    def head_size(self) -> int:
        """Width of one head."""
        return self.width // self.num_heads


def parameter_shapes(config: GPT2Config) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every parameter, in the order in which they are drawn and saved."""
    width = config.width
    shapes: dict[str, tuple[int, ...]] = {
        "wte": (config.vocabulary_size, width),
        "wpe": (config.context, width),
    }
    for i in range(config.num_layers):
        products = {"attn/c_attn": (width, 3 * width), "attn/c_proj": (width, width)}
        products |= {"mlp/c_fc": (width, 4 * width), "mlp/c_proj": (4 * width, width)}
        for half, norm in (("attn", "ln_1"), ("mlp", "ln_2")):
            shapes |= {f"h{i}/{norm}/g": (width,), f"h{i}/{norm}/b": (width,)}
            for name, shape in products.items():
                if name.startswith(half):
                    shapes |= {f"h{i}/{name}/w": shape, f"h{i}/{name}/b": shape[1:]}
    return shapes | {"ln_f/g": (width,), "ln_f/b": (width,)}


def parameter_count(config: GPT2Config) -> int:
    """Number of trained values."""
    return sum(int(np.prod(shape)) for shape in parameter_shapes(config).values())


def init(config: GPT2Config, seed: int = 0) -> Arrays:
    """Fresh parameters; the same seed gives the same bits on any machine.

    OpenAI's: normal, 0.02 (wpe 0.01), biases 0, gains 1; the projections back into the residual stream are divided by
    sqrt(2 * num_layers), as the GPT-2 paper says (section 2.3).
    """
    params = {}
    for index, (name, shape) in enumerate(parameter_shapes(config).items()):
        draw = np.random.default_rng([seed, index])
        if name.endswith("/b"):
            value = np.zeros(shape, np.float32)
        elif name.endswith("/g"):
            value = np.ones(shape, np.float32)
        else:
            scale = 0.01 if name == "wpe" else 0.02
            if name.endswith("c_proj/w"):
                scale /= np.sqrt(2 * config.num_layers)
            value = draw.standard_normal(shape, dtype=np.float32) * np.float32(scale)
        params[name] = value
    return params


def init_adapters(config: GPT2Config, rank: int, seed: int = 0) -> Arrays:
    """LoRA's matrices "lora/<product>/a" [in, rank], normal, and "lora/<product>/b" [rank, out], zero, of each product
    of each block (arXiv:2106.09685); none for rank 0. The same seed gives the same bits on any machine."""
    shapes = parameter_shapes(config)
    made: Arrays = {}
    for index, name in enumerate(n for n in shapes if rank and n.endswith("/w")):
        inputs, outputs = shapes[name]
        draw = np.random.default_rng([seed, 1 << 20, index])
        a = draw.standard_normal((inputs, rank), dtype=np.float32) / np.sqrt(np.float32(inputs))
        made[f"lora/{name[:-2]}/a"] = a.astype(np.float32)
        made[f"lora/{name[:-2]}/b"] = np.zeros((rank, outputs), np.float32)
    return made


def layer_norm(x: Array, gain: Array, bias: Array) -> Array:
    """Normalize the last axis to mean 0 and variance 1, then scale and shift."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred * centred).mean(axis=-1, keepdims=True)
    return centred / np.sqrt(variance + np.float32(LAYER_NORM_EPSILON)) * gain + bias


def gelu(x: Array) -> Array:
    """The tanh approximation of x * Phi(x) (arXiv:1606.08415)."""
    inner = np.float32(np.sqrt(2 / np.pi)) * (x + np.float32(0.044715) * x * x * x)
    return np.float32(0.5) * x * (1 + np.tanh(inner))


def forward(config: GPT2Config, params: Mapping[str, Array], tokens: npt.NDArray[np.integer]) -> Array:
    """Tokens [B, T], T at most the context -> logits [B, T, V]: position t's are of the token at t + 1."""
    length = tokens.shape[1]
    if length > config.context:
        raise ValueError(f"{length} tokens do not fit into a context of {config.context}")
    x = params["wte"][tokens] + params["wpe"][:length]
    for i in range(config.num_layers):
        block = {k.removeprefix(f"h{i}/"): v for k, v in params.items() if k.startswith(f"h{i}/")}
        normed = layer_norm(x, block["ln_1/g"], block["ln_1/b"])
        x = x + attention(config, block, normed)
        normed = layer_norm(x, block["ln_2/g"], block["ln_2/b"])
        hidden = gelu(normed @ block["mlp/c_fc/w"] + block["mlp/c_fc/b"])
        x = x + hidden @ block["mlp/c_proj/w"] + block["mlp/c_proj/b"]
    return layer_norm(x, params["ln_f/g"], params["ln_f/b"]) @ params["wte"].T


def attention(config: GPT2Config, block: Mapping[str, Array], x: Array) -> Array:
    """Causal self-attention of one block: x [B, T, E] -> [B, T, E]."""
    rows, length, width = x.shape
    heads = (x @ block["attn/c_attn/w"] + block["attn/c_attn/b"]).reshape(
        rows, length, 3, config.num_heads, -1
    )
    q, k, v = (heads[:, :, part].swapaxes(1, 2) for part in range(3))  # [B, heads, T, head_size]
    scores = q @ k.swapaxes(2, 3) / np.float32(np.sqrt(config.head_size))
    scores = np.where(np.tri(length, dtype=bool), scores, np.float32(-np.inf))
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    joined = (weights @ v).swapaxes(1, 2).reshape(rows, length, width)
    return joined @ block["attn/c_proj/w"] + block["attn/c_proj/b"]
