"""The Game of Thrones scripts, second half: a trained word LSTM writes a new script of 1,001 words.

Hardware: 1 core, 1 GB. Time: seconds.
Run it with: textmill run script_generate --param checkpoint=out/train/checkpoint
"""

from typing import Any

from kfp import dsl

from components import pinned_image
from components.generate.component import generate
from pipelines.tasks import LIGHT, Hardware, apply


def write_scripts(checkpoint: Any, light: Hardware, **settings: Any) -> Any:
    """The task that writes; its texts. It goes on past the end of an episode, as the old program did."""
    return apply(generate(checkpoint=checkpoint, more={"stop_at_end": False}, **settings), light).outputs[
        "texts"
    ]


@dsl.pipeline(name="script-generate")
def script_generate(
    checkpoint: str,
    prompt: str = "",
    length: int = 1001,
    temperature: float = 1.0,
    top_k: int = 0,
    number: int = 1,
    seed: int = 0,
    image: str = pinned_image(),
):
    """A trained checkpoint writes new scripts.

    Args:
        checkpoint: Where the checkpoint is: a folder, or the address of the artifact that script_train made.
        prompt: How each new script begins, in plain words (empty: at the start of a sentence).
        length: Words of each new script.
        temperature: Below 1 safer, above 1 wilder, 0 always the likeliest.
        top_k: Choose among so many likeliest words (0: all).
        number: How many new scripts.
        seed: The same seed writes the same script.
        image: Image of all tasks, by digest.
    """
    trained = dsl.importer(artifact_uri=checkpoint, artifact_class=dsl.Model, reimport=False)
    write_scripts(
        trained.output,
        LIGHT.on(image),
        prompt=prompt,
        length=length,
        temperature=temperature,
        top_k=top_k,
        number=number,
        seed=seed,
    )
