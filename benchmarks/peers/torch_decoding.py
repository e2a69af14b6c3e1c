"""PyTorch writing text at its best, as a side: nn.GRU / nn.LSTM stepped one token at a time, without gradients.

python benchmarks/peers/torch_decoding.py WORKLOAD BATCH fp32|bf16|compile|compile-bf16 [TOP_K]

The loop does no more than it must: step, softmax, multinomial; tokens stay tensors and become no text.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from torch import nn

from benchmarks.common import serve
from benchmarks.peers.workload import WORKLOADS

LENGTH = 256


class Model(nn.Module):
    """One-hot characters and a GRU, or a learned embedding and an LSTM; then a linear layer to the vocabulary."""

    def __init__(self, load, top_k: int) -> None:
        super().__init__()
        one_hot = load.cell == "gru"
        width = load.vocabulary_size if one_hot else load.hidden_size
        self.embedding = None if one_hot else nn.Embedding(load.vocabulary_size, load.hidden_size)
        self.rnn = (nn.GRU if one_hot else nn.LSTM)(width, load.hidden_size, load.num_layers)
        self.output = nn.Linear(load.hidden_size, load.vocabulary_size)
        self.register_buffer("eye", torch.eye(load.vocabulary_size) if one_hot else None)
        self.top_k = top_k

    def forward(self, token, state):
        x = self.eye[token] if self.embedding is None else self.embedding(token)
        h, state = self.rnn(x[None], state)
        logits = self.output(h[0]).float()
        if self.top_k:
            values, ids = torch.topk(logits, self.top_k)
            drawn = torch.multinomial(torch.softmax(values, -1), 1)
            return ids.gather(1, drawn)[:, 0], state
        return torch.multinomial(torch.softmax(logits, -1), 1)[:, 0], state


def main() -> None:
    load, batch, mode = WORKLOADS[sys.argv[1]], int(sys.argv[2]), sys.argv[3]
    top_k = int(sys.argv[4]) if len(sys.argv) > 4 else 0
    torch.manual_seed(0)
    torch.set_num_threads(int(os.environ.get("BENCH_THREADS") or len(os.sched_getaffinity(0))))
    model = Model(load, top_k).eval()
    if mode.endswith("bf16"):
        model = model.bfloat16()
    dtype = next(model.parameters()).dtype
    step = torch.compile(model) if mode.startswith("compile") else model

    @torch.inference_mode()
    def work() -> int:
        zero = torch.zeros(load.num_layers, batch, load.hidden_size, dtype=dtype)
        state = zero if load.cell == "gru" else (zero, zero.clone())
        token = torch.zeros(batch, dtype=torch.long)
        for _ in range(LENGTH):
            token, state = step(token, state)
        return LENGTH * batch

    serve(work, {"torch": torch.__version__, "precision": mode, "threads": torch.get_num_threads()})


if __name__ == "__main__":
    main()
