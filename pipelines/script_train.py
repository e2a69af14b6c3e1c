"""The Game of Thrones scripts, first half: scripts become markup, words and a trained word LSTM.

Hardware: 2 cores, 2 GB; a GPU if there is one. Time: `small` reads 220,000 words 13 times in
5 minutes at 10,000 words a second, which 2 cores with AVX512-bf16 reach.
Expect on such a corpus: a perplexity south of 100 with `small`; `test` is no better than counting words.
Run it with: textmill run script_train --param source=scripts/
"""

from typing import Any

from kfp import dsl

from components import pinned_image
from components.ingest.component import ingest
from components.normalize.component import normalize
from components.report.component import report
from components.train.component import train
from pipelines.tasks import LIGHT, Hardware, apply


def learn_scripts(
    source: Any, vocabulary: Any, minimum_count: Any, light: Hardware, heavy: Hardware, **training: Any
) -> tuple[Any, Any]:
    """The tasks from scripts to a trained model; its dataset and checkpoint."""
    corpus = apply(ingest(source=source), light).outputs["corpus"]
    normalized = normalize(
        corpus=corpus,
        rules="unicode_repair,script_markup",
        tokenizer="word",
        vocabulary=vocabulary,
        minimum_count=minimum_count,
    )
    dataset = apply(normalized, light).outputs["dataset"]
    trained = train(dataset=dataset, model="word-lstm", **training)
    return dataset, apply(trained, heavy).outputs["checkpoint"]


@dsl.pipeline(name="script-train")
def script_train(
    source: str = "sample:play",
    preset: str = "small",
    overrides: dict = {},  # noqa: B006
    max_minutes: float = 0.0,
    vocabulary: str = "train",
    minimum_count: int = 2,
    seed: int = 0,
    image: str = pinned_image(),
    train_image: str = pinned_image(),
    train_cpu: str = "4",
    train_memory: str = "8Gi",
    train_accelerator_type: str = "nvidia.com/gpu",
    train_accelerator_count: str = "0",
    train_nodes: dict = {},  # noqa: B006
    train_tolerations: list = [],  # noqa: B006
):
    """Scripts become a word LSTM: its checkpoint and a report.

    Args:
        source: Scripts, a file each: a folder, glob, archive, URL, s3:// or gs:// address, or sample:play.
        preset: Size and schedule of word-lstm: test, small, medium or large, as in TensorFlow's PTB model.
        overrides: Fields of the preset to change, such as {hidden_size: 256, epochs: 5}.
        max_minutes: Stop training after about this many minutes (0: no limit).
        vocabulary: Count the words of the training documents (train), or of all as the old program did (all).
        minimum_count: Rarer words become <unk> (1: none does, as in the old program).
        seed: Seed of the weights and of dropout.
        image: Image of all tasks but train, by digest.
        train_image: Image of train, by digest; the gpu variant where it gets a GPU.
        train_cpu: Cores of train on a cluster.
        train_memory: Memory of train on a cluster.
        train_accelerator_type: Which accelerator train asks for.
        train_accelerator_count: How many accelerators train asks for, as text.
        train_nodes: Labels of the nodes that may run train, such as {nvidia.com/gpu.product: NVIDIA-L4}.
        train_tolerations: Taints of nodes that train puts up with, as Kubernetes writes tolerations.
    """
    light = LIGHT.on(image)
    heavy = Hardware(
        image=train_image,
        cpu=train_cpu,
        memory=train_memory,
        accelerator_type=train_accelerator_type,
        accelerator_count=train_accelerator_count,
        node_selector=train_nodes,
        tolerations=train_tolerations,
        retries=3,
    )
    dataset, checkpoint = learn_scripts(
        source,
        vocabulary,
        minimum_count,
        light,
        heavy,
        preset=preset,
        overrides=overrides,
        max_minutes=max_minutes,
        seed=seed,
    )
    apply(report(dataset=dataset, checkpoint=checkpoint), light)
