"""Hugging Face's GPT2LMHeadModel writing text, as a side.

python benchmarks/peers/huggingface_decoding.py BATCH fp32|bf16 generate|loop TOP_K [PROMPT]

`generate` is its own; `loop` the tightest one over its key-value cache: step, softmax, multinomial. Tokens stay tensors
and become no text. With PROMPT one piece of work is a prompt of so many tokens and the first token after it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers

from benchmarks.common import serve
from benchmarks.peers.gpt2_decoding_workload import END, LENGTH, prompt
from benchmarks.peers.gpt2_workload import SIZES


def loop(model, ids, length: int, top_k: int) -> None:
    """Draw `length` tokens after ids [B, T]."""
    past, x = transformers.DynamicCache(config=model.config), ids
    for _ in range(length):
        logits = model(x, past_key_values=past, use_cache=True, logits_to_keep=1).logits[:, -1].float()
        if top_k:
            values, places = torch.topk(logits, top_k)
            x = places.gather(1, torch.multinomial(torch.softmax(values, -1), 1))
        else:
            x = torch.multinomial(torch.softmax(logits, -1), 1)


def generate(model, ids, length: int, top_k: int) -> None:
    """The same by the model's own method."""
    mask = torch.ones_like(ids)
    model.generate(ids, attention_mask=mask, max_new_tokens=length, do_sample=True, top_k=top_k)


def main() -> None:
    batch, mode, way, top_k = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
    start = prompt(int(sys.argv[5])) if len(sys.argv) > 5 else prompt(1)
    length = 1 if len(sys.argv) > 5 else LENGTH
    torch.manual_seed(0)
    torch.set_num_threads(int(os.environ.get("BENCH_THREADS") or len(os.sched_getaffinity(0))))
    config = transformers.GPT2Config(
        vocab_size=SIZES["vocabulary_size"],
        n_positions=SIZES["context"],
        n_embd=SIZES["width"],
        n_head=SIZES["num_heads"],
        n_layer=SIZES["num_layers"],
    )
    model = transformers.GPT2LMHeadModel(config).eval()
    if mode == "bf16":
        model = model.bfloat16()
    model.generation_config.eos_token_id = None  # every text has its full length
    model.generation_config.pad_token_id = END
    ids = torch.from_numpy(start).long().expand(batch, -1)
    write = {"generate": generate, "loop": loop}[way]

    @torch.inference_mode()
    def work() -> int:
        write(model, ids, length, top_k)
        return length * batch

    about = {"torch": torch.__version__, "transformers": transformers.__version__, "precision": mode}
    serve(work, about, warm_up=1)


if __name__ == "__main__":
    main()
