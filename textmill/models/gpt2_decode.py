"""GPT-2's decoder for this machine: GPT2Decoder is compiled by Numba on a CPU, by XLA on a GPU.

Both have the same interface: a `Pool` of slots with `read`, `run` and `room` (gpt2_decode_cpu.py).
"""

from __future__ import annotations

from typing import Any

from textmill import devices


def class_for(platform: str) -> type[Any]:
    """The decoder's class where JAX computes on `platform`."""
    if platform == "cpu":
        from textmill.models.gpt2_decode_cpu import CPUDecoder

        return CPUDecoder
    from textmill.models.gpt2_decode_jax import JaxDecoder

    return JaxDecoder


GPT2Decoder = class_for(devices.jax_platform())
