"""The Game of Thrones scripts, whole: scripts become a word LSTM, and that writes a new script of 1,001 words.

Hardware and time: those of script_train. Run it with: textmill run script_word_lstm --param source=scripts/
"""

from kfp import dsl

from components import pinned_image
from components.report.component import report
from pipelines.script_generate import write_scripts
from pipelines.script_train import learn_scripts
from pipelines.tasks import LIGHT, Hardware, apply


@dsl.pipeline(name="script-word-lstm")
def script_word_lstm(
    source: str = "sample:play",
    preset: str = "small",
    overrides: dict = {},  # noqa: B006
    max_minutes: float = 0.0,
    vocabulary: str = "train",
    minimum_count: int = 2,
    prompt: str = "",
    length: int = 1001,
    temperature: float = 1.0,
    top_k: int = 0,
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
    """Scripts become a word LSTM, and that writes new scripts, with a report.

    Args:
        source: Scripts, a file each: a folder, glob, archive, URL, s3:// or gs:// address, or sample:play.
        preset: Size and schedule of word-lstm: test, small, medium or large, as in TensorFlow's PTB model.
        overrides: Fields of the preset to change, such as {hidden_size: 256, epochs: 5}.
        max_minutes: Stop training after about this many minutes (0: no limit).
        vocabulary: Count the words of the training documents (train), or of all as the old program did (all).
        minimum_count: Rarer words become <unk> (1: none does, as in the old program).
        prompt: How each new script begins, in plain words (empty: at the start of a sentence).
        length: Words of each new script.
        temperature: Below 1 safer, above 1 wilder, 0 always the likeliest.
        top_k: Choose among so many likeliest words (0: all).
        number: How many new scripts.
        seed: Seed of the weights, of dropout and of the scripts.
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
    texts = write_scripts(
        checkpoint,
        light,
        dataset=dataset,
        prompt=prompt,
        length=length,
        temperature=temperature,
        top_k=top_k,
        number=number,
        seed=seed,
    )
    apply(report(dataset=dataset, checkpoint=checkpoint, texts=texts), light)
