"""PyTorch at its best as a side: nn.GRU / nn.LSTM, 2 threads; fp32, bf16 (autocast) or torch.compile.

python benchmarks/peers/torch_rnn.py WORKLOAD fp32|bf16|compile|compile-bf16
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from torch import nn

from benchmarks.common import serve
from benchmarks.peers.workload import WORKLOADS, batches


class Model(nn.Module):
    """One-hot characters and a GRU, or a learned embedding and an LSTM; then a linear layer to the vocabulary."""

    def __init__(self, load) -> None:
        super().__init__()
        self.load = load
        one_hot = load.cell == "gru"
        width = load.vocabulary_size if one_hot else load.hidden_size
        self.embedding = None if one_hot else nn.Embedding(load.vocabulary_size, load.hidden_size)
        kind = nn.GRU if one_hot else nn.LSTM
        self.rnn = kind(width, load.hidden_size, load.num_layers)  # time-major is its faster layout
        self.output = nn.Linear(load.hidden_size, load.vocabulary_size)
        self.register_buffer("eye", torch.eye(load.vocabulary_size) if one_hot else None)

    def forward(self, x, y, state):
        inputs = self.eye[x] if self.embedding is None else self.embedding(x)
        h, state = self.rnn(inputs, state)
        logits = self.output(h)
        loss = nn.functional.cross_entropy(logits.view(-1, self.load.vocabulary_size).float(), y.view(-1))
        return loss, logits, state


def detached(state):
    return tuple(part.detach() for part in state) if isinstance(state, tuple) else state.detach()


def main() -> None:
    load, mode = WORKLOADS[sys.argv[1]], sys.argv[2]
    torch.manual_seed(0)
    torch.set_num_threads(int(os.environ.get("BENCH_THREADS") or len(os.sched_getaffinity(0))))
    model = Model(load)
    adam = load.cell == "gru"
    parameters = list(model.parameters())
    if adam:
        optimizer = torch.optim.Adam(parameters, lr=load.learning_rate, fused=True)
    else:
        optimizer = torch.optim.SGD(parameters, lr=load.learning_rate, foreach=True)
    run = torch.compile(model) if mode.startswith("compile") else model
    autocast = torch.autocast("cpu", torch.bfloat16) if mode.endswith("bf16") else contextlib.nullcontext()
    source, state = batches(load), None
    zeros = torch.zeros(load.num_layers, load.batch_size, load.hidden_size)
    state = zeros if adam else (zeros, zeros.clone())

    def work() -> int:
        nonlocal state
        x, y = (torch.from_numpy(a).long().T.contiguous() for a in next(source))
        optimizer.zero_grad(set_to_none=True)
        with autocast:
            loss, logits, after = run(x, y, state)
        (loss if adam else loss * load.num_steps).backward()
        if load.max_grad_norm:
            nn.utils.clip_grad_norm_(parameters, load.max_grad_norm, foreach=True)
        optimizer.step()
        state = detached(after)
        with torch.no_grad():
            (logits.argmax(-1) == y).float().mean().item()
        loss.item()
        return x.numel()

    serve(work, {"torch": torch.__version__, "mode": mode}, warm_up=3)


if __name__ == "__main__":
    main()
