"""The plain GPT-2: sizes, names, and the arithmetic's properties."""

import numpy as np
import pytest

from textmill.errors import SettingsError
from textmill.models.gpt2 import GPT2Config, forward, init, parameter_count, parameter_shapes

TINY = GPT2Config.of(vocabulary_size=40, context=16, width=8, num_heads=2, num_layers=2)


@pytest.mark.parametrize(
    ("sizes", "count"),
    [
        ((12, 12, 768), 124_439_808),
        ((24, 16, 1024), 354_823_168),
        ((36, 20, 1280), 774_030_080),
        ((48, 25, 1600), 1_557_611_200),
    ],
)
def test_openais_parameter_counts(sizes, count):
    layers, heads, width = sizes
    assert parameter_count(GPT2Config.of(num_layers=layers, num_heads=heads, width=width)) == count


def test_names_are_openais():
    names = list(parameter_shapes(GPT2Config.of(num_layers=1)))
    assert names[:4] == ["wte", "wpe", "h0/ln_1/g", "h0/ln_1/b"]
    assert "h0/attn/c_attn/w" in names
    assert "h0/mlp/c_proj/b" in names
    assert len(names) == 16


def test_heads_divide_the_width():
    with pytest.raises(SettingsError, match="heads must divide"):
        GPT2Config.of(width=10, num_heads=3)


def test_a_later_token_does_not_change_an_earlier_prediction():
    params = init(TINY, 1)
    tokens = np.arange(12).reshape(1, 12)
    changed = tokens.copy()
    changed[0, 7] = 30
    before, after = (forward(TINY, params, t) for t in (tokens, changed))
    assert (before[:, :7] == after[:, :7]).all()
    assert not np.allclose(before[:, 7:], after[:, 7:])


def test_fresh_weights_predict_about_evenly():
    logits = forward(TINY, init(TINY, 0), np.arange(16).reshape(1, 16))
    probabilities = np.exp(logits - logits.max(-1, keepdims=True))
    probabilities /= probabilities.sum(-1, keepdims=True)
    assert logits.shape == (1, 16, 40)
    assert abs(-np.log(probabilities).mean() - np.log(40)) < 0.1


def test_text_longer_than_the_context_is_refused():
    with pytest.raises(ValueError, match="context of 16"):
        forward(TINY, init(TINY, 0), np.zeros((1, 17), int))
