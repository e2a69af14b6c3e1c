"""Hugging Face's GPT2LMHeadModel in a plain PyTorch loop as a side.

python benchmarks/peers/huggingface_training.py BATCH fp32|bf16 sdpa|eager

No dropout, as on the other sides; its own loss; AdamW in one fused call; bf16 is autocast.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers

from benchmarks.common import serve
from benchmarks.peers.gpt2_workload import LEARNING_RATE, SIZES, batches


def main() -> None:
    batch_size, mode, attention = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    torch.manual_seed(0)
    torch.set_num_threads(int(os.environ.get("BENCH_THREADS") or len(os.sched_getaffinity(0))))
    config = transformers.GPT2Config(
        vocab_size=SIZES["vocabulary_size"],
        n_positions=SIZES["context"],
        n_embd=SIZES["width"],
        n_head=SIZES["num_heads"],
        n_layer=SIZES["num_layers"],
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        use_cache=False,
        attn_implementation=attention,
    )
    model = transformers.GPT2LMHeadModel(config)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0, fused=True)
    autocast = torch.autocast("cpu", torch.bfloat16) if mode == "bf16" else contextlib.nullcontext()
    source = batches(batch_size, SIZES["vocabulary_size"], SIZES["context"])

    def work() -> int:
        tokens = torch.from_numpy(next(source)).long()
        optimizer.zero_grad(set_to_none=True)
        with autocast:
            loss = model(input_ids=tokens, labels=tokens).loss
        loss.backward()
        optimizer.step()
        loss.item()
        return tokens.numel()

    about = {"torch": torch.__version__, "transformers": transformers.__version__, "mode": mode}
    serve(work, about, warm_up=1)


if __name__ == "__main__":
    main()
