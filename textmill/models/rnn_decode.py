"""The recurrent family's decoder for this machine: RNNDecoder is compiled by Numba on a CPU, by XLA on a GPU.

Both have the same interface: a `Pool` of slots with `run` (rnn_decode_cpu.py).
"""

from __future__ import annotations

from typing import Any

from textmill import devices


def class_for(platform: str) -> type[Any]:
    """The decoder's class where JAX computes on `platform`."""
    if platform == "cpu":
        from textmill.models.rnn_decode_cpu import CPUDecoder

        return CPUDecoder
    from textmill.models.rnn_decode_jax import JaxDecoder

    return JaxDecoder


RNNDecoder = class_for(devices.jax_platform())
