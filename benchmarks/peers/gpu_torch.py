"""PyTorch as a side: python benchmarks/peers/gpu_torch.py train|write BATCH [--device gpu|cpu] [--tiny]

`train` is a plain GPT-2 of our own, trained by nanoGPT's method: scaled_dot_product_attention, bfloat16 autocast, fused
AdamW (matrices alone decay), gradients clipped, torch.compile, TF32 for what stays float32, vocabulary padded to a
multiple of 64. `write` is Hugging Face's GPT2LMHeadModel.generate in bfloat16; it needs Transformers too.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from torch import nn
from torch.nn import functional

from benchmarks.common import serve
from benchmarks.peers.gpt2_workload import batches
from benchmarks.peers.gpu_workload import (
    LEARNING_RATE,
    LENGTH,
    TINY_LENGTH,
    WEIGHT_DECAY,
    arguments_of_side,
    sizes_of,
)


class Block(nn.Module):
    """Attention and feed-forward, each behind its norm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention_in, self.attention_out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.forward_in, self.forward_out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows, length, width = x.shape
        q, k, v = (
            part.view(rows, length, self.heads, -1).transpose(1, 2)
            for part in self.attention_in(self.norm_1(x)).split(width, dim=2)
        )
        joined = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attention_out(joined.transpose(1, 2).reshape(rows, length, width))
        hidden = functional.gelu(self.forward_in(self.norm_2(x)), approximate="tanh")
        return x + self.forward_out(hidden)


class GPT2(nn.Module):
    """Logits' loss of tokens and the tokens behind them."""

    def __init__(self, sizes: dict[str, int]) -> None:
        super().__init__()
        width = sizes["width"]
        vocabulary = -(-sizes["vocabulary_size"] // 64) * 64
        self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Embedding(sizes["context"], width)
        self.blocks = nn.ModuleList(Block(width, sizes["num_heads"]) for _ in range(sizes["num_layers"]))
        self.norm = nn.LayerNorm(width)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        hidden = self.tokens(x) + self.places(torch.arange(x.shape[1], device=x.device))
        for block in self.blocks:
            hidden = block(hidden)
        logits = functional.linear(self.norm(hidden), self.tokens.weight)
        return functional.cross_entropy(logits.flatten(0, 1), y.flatten(), ignore_index=-1)


def train(arguments, device: torch.device, sizes: dict[str, int]) -> None:
    torch.set_float32_matmul_precision("high")
    model = GPT2(sizes).to(device)
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}],
        lr=LEARNING_RATE,
        fused=True,
    )
    compiled = torch.compile(model)
    source = batches(arguments.batch, sizes["vocabulary_size"], sizes["context"])

    def work() -> int:
        x = torch.from_numpy(next(source)).long().to(device)
        y = functional.pad(x[:, 1:], (0, 1), value=-1)
        with torch.autocast(device.type, torch.bfloat16):
            loss = compiled(x, y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()  # waits for the device, as a training that says its loss does
        return x.numel()

    serve(work, _about(device), warm_up=5)


def write(arguments, device: torch.device, sizes: dict[str, int]) -> None:
    import transformers

    config = transformers.GPT2Config(
        vocab_size=sizes["vocabulary_size"],
        n_positions=sizes["context"],
        n_embd=sizes["width"],
        n_head=sizes["num_heads"],
        n_layer=sizes["num_layers"],
    )
    model = transformers.GPT2LMHeadModel(config).eval().bfloat16().to(device)
    end = sizes["vocabulary_size"] - 1
    model.generation_config.eos_token_id = None  # every text has its full length
    model.generation_config.pad_token_id = end
    ids = torch.full((arguments.batch, 1), end, device=device)
    mask, length = torch.ones_like(ids), TINY_LENGTH if arguments.tiny else LENGTH

    @torch.inference_mode()
    def work() -> int:
        model.generate(ids, attention_mask=mask, max_new_tokens=length, do_sample=True, top_k=0)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return arguments.batch * length

    serve(work, {**_about(device), "transformers": transformers.__version__}, warm_up=2)


def _about(device: torch.device) -> dict[str, str]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return {"torch": torch.__version__, "device": name}


def main() -> None:
    arguments = arguments_of_side()
    if arguments.device == "gpu" and not torch.cuda.is_available():
        sys.exit("PyTorch sees no GPU here")
    torch.manual_seed(0)
    device = torch.device("cuda" if arguments.device == "gpu" else "cpu")
    (train if arguments.work == "train" else write)(arguments, device, sizes_of(arguments.tiny))


if __name__ == "__main__":
    main()
