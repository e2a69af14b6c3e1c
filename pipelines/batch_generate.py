"""Many texts from a trained checkpoint: prompts in groups, each written by a pod of its own, put together in order.

The texts are those that one generate writes, byte for byte, however many groups there are. A group that failed is
written again by itself; on one machine, run again with the same parameters, groups that are there stay.
Hardware: 2 cores and 6 GB for each of the groups that are written at the same time, for GPT-2 of 124M.
Run it with: textmill run batch_generate --param checkpoint=out/train/checkpoint --param source=prompts.txt
"""

from kfp import dsl

from components import pinned_image
from components.generate_group.component import generate_group
from components.merge_texts.component import merge_texts
from components.split_prompts.component import split_prompts
from pipelines.tasks import LIGHT, WRITING, apply

MOST_AT_ONCE = 16  # groups written side by side


@dsl.pipeline(name="batch-generate")
def batch_generate(
    checkpoint: str,
    source: str = "",
    prompt: str = "",
    number: int = 1,
    groups: int = 0,
    length: int = 256,
    temperature: float = 0.7,
    top_p: float = 1.0,
    seed: int = 0,
    whole_sentences: bool = False,
    most_characters: int = 0,
    image: str = pinned_image(),
):
    """A trained checkpoint goes on from many prompts, by pods side by side; the texts, and how fast they came.

    Args:
        checkpoint: Where the checkpoint is: a folder, or the address of the artifact that train made.
        source: File with a prompt a line, or .jsonl with settings of its own beside each: a path, s3://, gs:// or
            https:// (empty: the one prompt).
        prompt: Text to go on from (empty: the start of a line or document).
        number: Texts for each prompt.
        groups: Into how many groups the texts are divided (0: one for each 1,000 or so).
        length: Most tokens of each text.
        temperature: Below 1 safer, above 1 wilder, 0 always the likeliest.
        top_p: Draw from the fewest tokens that hold this probability together (1: from all).
        seed: The same seed writes the same texts.
        whole_sentences: Cut a text after its last full sentence.
        most_characters: Most characters of a text; cut at a sentence's or word's end (0: no limit).
        image: Image of all tasks, by digest.
    """
    trained = dsl.importer(artifact_uri=checkpoint, artifact_class=dsl.Model, reimport=False)
    split = apply(split_prompts(source=source, prompt=prompt, number=number, groups=groups), LIGHT.on(image))
    split.set_caching_options(False)  # an address stays, what it holds changes
    with dsl.ParallelFor(split.outputs["Output"], parallelism=MOST_AT_ONCE) as group:
        written = generate_group(
            checkpoint=trained.output,
            prompts=split.outputs["prompts"],
            group=group,
            number=number,
            length=length,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            whole_sentences=whole_sentences,
            most_characters=most_characters,
        )
        texts = apply(written, WRITING.on(image)).outputs["texts"]
    apply(merge_texts(groups=dsl.Collected(texts)), LIGHT.on(image))
