"""The first pipeline to run: a small character model learns a play and writes on.

Hardware: 2 cores, 1 GB. Expect on the embedded play (88 KB): names and speeches in their places, most words right.
Run it with: make run
"""

from kfp import dsl

from components import pinned_image
from components.generate.component import generate
from components.ingest.component import ingest
from components.normalize.component import normalize
from components.report.component import report
from components.train.component import train
from pipelines.tasks import LIGHT, Hardware, apply


@dsl.pipeline(name="quickstart")
def quickstart(
    source: str = "sample:play",
    preset: str = "small",
    overrides: dict = {},  # noqa: B006
    max_minutes: float = 0.0,
    prompt: str = "",
    length: int = 1000,
    temperature: float = 0.7,
    number: int = 3,
    seed: int = 0,
    image: str = pinned_image(),
    train_image: str = pinned_image(),
    train_cpu: str = "2",
    train_memory: str = "4Gi",
    train_accelerator_type: str = "nvidia.com/gpu",
    train_accelerator_count: str = "0",
    train_nodes: dict = {},  # noqa: B006
    train_tolerations: list = [],  # noqa: B006
):
    """A small character model learns a text and writes new ones, with a report.

    Args:
        source: What to read: a file, folder, glob, archive, URL, s3:// or gs:// address, or sample:play.
        preset: Size and schedule of char-gru: tiny, small or shakespeare.
        overrides: Fields of the preset to change, such as {hidden_size: 256, epochs: 5}.
        max_minutes: Stop training after about this many minutes (0: no limit).
        prompt: How each new text begins (empty: at the start of a line).
        length: Characters of each new text.
        temperature: Below 1 safer, above 1 wilder, 0 always the likeliest.
        number: How many new texts.
        seed: Seed of the weights, of dropout and of the texts.
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
    dataset = apply(normalize(corpus=corpus, tokenizer="char"), light).outputs["dataset"]
    trained = train(
        dataset=dataset,
        model="char-gru",
        preset=preset,
        overrides=overrides,
        max_minutes=max_minutes,
        seed=seed,
    )
    checkpoint = apply(trained, heavy).outputs["checkpoint"]
    written = generate(
        checkpoint=checkpoint,
        dataset=dataset,
        prompt=prompt,
        length=length,
        temperature=temperature,
        number=number,
        seed=seed,
    )
    texts = apply(written, light).outputs["texts"]
    apply(report(dataset=dataset, checkpoint=checkpoint, texts=texts), light)
