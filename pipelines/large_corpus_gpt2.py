"""A GPT-2 of one's own from a large body of text: the text is cleaned by many pods side by side, each some of it.

The shards of the corpus are divided into groups; a loop over these cleans them, and one task puts the parts together
(docs/scale.md: when this pays, and how many groups). The dataset is the one that a single normalize makes.
Hardware: normalizing 2 cores and 4 GB a pod; training a GPU of 24 GB for the 124M model, 2 cores for the tiny one.
Run it with: textmill run large_corpus_gpt2 --param source=texts/ --param groups=4
"""

from typing import Any

from kfp import dsl

from components import pinned_image
from components.generate.component import generate
from components.ingest.component import ingest
from components.normalize_merge.component import normalize_merge
from components.normalize_shards.component import normalize_shards
from components.report.component import report
from components.shard_groups.component import shard_groups
from components.train.component import train
from pipelines.tasks import CLEANING, LIGHT, WRITING, Hardware, apply

MOST_AT_ONCE = 16  # groups cleaned side by side: each pod reads the whole corpus from the object store


def normalize_in_parallel(
    corpus: Any, groups: Any, rules: Any, near_duplicates: Any, image: Any, **settings: Any
) -> Any:
    """The tasks from a corpus to its dataset, the rules in a loop over groups of shards; the dataset."""
    found = apply(shard_groups(corpus=corpus, groups=groups), LIGHT.on(image))
    with dsl.ParallelFor(found.output, parallelism=MOST_AT_ONCE) as group:
        cleaned = normalize_shards(corpus=corpus, group=group, rules=rules, near_duplicates=near_duplicates)
        parts = apply(cleaned, CLEANING.on(image)).outputs["parts"]
    merged = normalize_merge(
        parts=dsl.Collected(parts), rules=rules, near_duplicates=near_duplicates, **settings
    )
    return apply(merged, CLEANING.on(image)).outputs["dataset"]


@dsl.pipeline(name="large-corpus-gpt2")
def large_corpus_gpt2(
    source: str = "sample:episodes",
    groups: int = 0,
    rules: str = "unicode_repair,whitespace",
    near_duplicates: float = 0.8,
    vocabulary_size: int = 8192,
    preset: str = "small",
    overrides: dict = {},  # noqa: B006
    steps: int = 2000,
    max_minutes: float = 0.0,
    prompt: str = "",
    number: int = 5,
    length: int = 256,
    temperature: float = 0.7,
    seed: int = 0,
    image: str = pinned_image(),
    train_image: str = pinned_image(),
    train_cpu: str = "4",
    train_memory: str = "10Gi",
    train_accelerator_type: str = "nvidia.com/gpu",
    train_accelerator_count: str = "0",
    train_nodes: dict = {},  # noqa: B006
    train_tolerations: list = [],  # noqa: B006
):
    """A large corpus is cleaned in parallel; a GPT-2 learns byte pairs and the language from it, and writes.

    Args:
        source: The texts: a folder, glob, archive, URL, s3:// or gs:// address, or sample:episodes. Many files rather
            than one: a file is the smallest piece that a pod takes.
        groups: Into how many groups the files are divided (0: one for each 3 GB of text or so, at most 16).
        rules: Rule sets that clean the texts, with commas between.
        near_duplicates: Drop documents of which this share of word 5-grams stood in one before (0: keep all).
        vocabulary_size: Most byte pairs to learn.
        preset: Size and schedule of gpt2: small or tiny.
        overrides: Fields of the preset to change, such as {n_layer: 8, batch_size: 16}.
        steps: Stop training after this many steps.
        max_minutes: Stop training after about this many minutes (0: no limit).
        prompt: How each text begins (empty: as the model likes).
        number: How many texts.
        length: Most tokens of each.
        temperature: Below 1 safer, above 1 wilder, 0 always the likeliest.
        seed: Seed of the weights, of the order of training, and of the texts.
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
    corpus = apply(ingest(source=source), light).outputs["corpus"]
    dataset = normalize_in_parallel(
        corpus, groups, rules, near_duplicates, image, tokenizer="bpe", vocabulary_size=vocabulary_size
    )
    trained = train(
        dataset=dataset,
        model="gpt2",
        preset=preset,
        overrides=overrides,
        max_steps=steps,
        max_minutes=max_minutes,
        seed=seed,
    )
    checkpoint = apply(trained, heavy).outputs["checkpoint"]
    written = generate(
        checkpoint=checkpoint,
        dataset=dataset,
        prompt=prompt,
        number=number,
        length=length,
        temperature=temperature,
        seed=seed,
    )
    texts = apply(written, WRITING.on(image)).outputs["texts"]
    apply(report(dataset=dataset, checkpoint=checkpoint, texts=texts), light)
