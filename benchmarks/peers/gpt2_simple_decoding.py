"""gpt-2-simple's own sampling graph as a side: python benchmarks/peers/gpt2_simple_decoding.py BATCH TOP_K [PROMPT]

Its sample_sequence as its `generate` calls it, built once; tokens become no text. With PROMPT one piece of work is a
prompt of so many tokens and the first token after it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import gpt_2_simple as gpt2
import tensorflow as tf
from gpt_2_simple.src import model, sample

from benchmarks.common import serve
from benchmarks.peers.gpt2_decoding_workload import LENGTH, prompt
from benchmarks.peers.gpt2_workload import SIZES


def main() -> None:
    batch, top_k = int(sys.argv[1]), int(sys.argv[2])
    length = 1 if len(sys.argv) > 3 else LENGTH
    session = gpt2.start_tf_sess()
    hparams = model.default_hparams()
    hparams.override_from_dict(
        {
            "n_vocab": SIZES["vocabulary_size"],
            "n_ctx": SIZES["context"],
            "n_embd": SIZES["width"],
            "n_head": SIZES["num_heads"],
            "n_layer": SIZES["num_layers"],
        }
    )
    start = prompt(int(sys.argv[3])) if len(sys.argv) > 3 else prompt(1)
    context = tf.compat.v1.placeholder(tf.int32, [batch, None])
    output = sample.sample_sequence(
        hparams=hparams,
        length=length,
        start_token=None,
        context=context,
        batch_size=batch,
        temperature=1.0,
        top_k=top_k,
        top_p=0.0,
    )
    session.run(tf.compat.v1.global_variables_initializer())
    fed = {context: [start.tolist()] * batch}

    def work() -> int:
        session.run(output, feed_dict=fed)
        return length * batch

    serve(work, {"tensorflow": tf.__version__}, warm_up=1)


if __name__ == "__main__":
    main()
