"""tensorflow-rnn-shakespeare: a GRU of 3 x 512 learns plays character by character and writes a new one.

Hardware: 2 cores, 2 GB; a GPU if there is one. Time: 7 minutes an epoch of Shakespeare's works (4.9 million characters)
at 12,000 characters a second, which 2 cores with AVX512-bf16 reach.
Expect on them, validated on winterstale.txt: 1.42 nats a character and 57.8 % right after 35 million characters.
Run it with: textmill run play_char_gru --param source=plays/
"""

from kfp import dsl

from components import pinned_image
from components.generate.component import generate
from components.ingest.component import ingest
from components.normalize.component import normalize
from components.report.component import report
from components.train.component import train
from pipelines.tasks import LIGHT, Hardware, apply


@dsl.pipeline(name="play-char-gru")
def play_char_gru(
    source: str = "sample:play",
    preset: str = "shakespeare",
    overrides: dict = {},  # noqa: B006
    max_minutes: float = 0.0,
    prompt: str = "K",
    length: int = 1000,
    top_k: int = 2,
    temperature: float = 1.0,
    number: int = 1,
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
    """Plays become a character GRU of 3 x 512 units, and that writes a new play.

    Args:
        source: Plays, a file each: a folder, glob, archive, URL, s3:// or gs:// address, or sample:play.
        preset: Size and schedule of char-gru: tiny, small or shakespeare.
        overrides: Fields of the preset to change, such as {batch_size: 200, keep_prob: 0.8, epochs: 10}.
        max_minutes: Stop training after about this many minutes (0: no limit).
        prompt: How the new play begins.
        length: Characters of the new play.
        top_k: Choose among so many likeliest characters: 2 for a trained model, 10 for a young one (0: all).
        temperature: Below 1 safer, above 1 wilder, 0 always the likeliest.
        number: How many new plays.
        seed: Seed of the weights, of dropout and of the plays.
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
    normalized = normalize(
        corpus=corpus,
        rules="unicode_repair",
        tokenizer="char",
        near_duplicates=0.0,
        split="validation_book",
        more={"alphabet": "ascii98"},
    )
    dataset = apply(normalized, light).outputs["dataset"]
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
        top_k=top_k,
        temperature=temperature,
        number=number,
        seed=seed,
    )
    texts = apply(written, light).outputs["texts"]
    apply(report(dataset=dataset, checkpoint=checkpoint, texts=texts), light)
