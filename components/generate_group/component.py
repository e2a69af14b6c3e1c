"""a checkpoint and a group of prompts' texts -> these texts"""

from kfp import dsl

from components import pinned_image


@dsl.component(base_image=pinned_image(), install_kfp_package=False)
def generate_group(
    checkpoint: dsl.Input[dsl.Model],
    prompts: dsl.Input[dsl.Dataset],
    texts: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    group: str = "",
    number: int = 1,
    length: int = 1000,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
    stop: list = [],  # noqa: B006
    include_prompt: bool = True,
    whole_sentences: bool = False,
    most_characters: int = 0,
    more: dict = {},  # noqa: B006
):
    """Write a group of the texts that prompts ask for: those that one generate would write. merge_texts goes on.

    Args:
        checkpoint: What train made.
        prompts: What split_prompts made.
        group: Texts to write, a range of their numbers such as 0:250 (empty: all).
        number: Texts for each prompt.
        length: Most tokens (characters, words or pieces of words) of each text.
        temperature: Below 1 is safer, above 1 wilder; 0 takes the likeliest token.
        top_k: Draw from the k likeliest tokens only (0: from all); S3's topn.
        top_p: Draw from the fewest tokens that hold this probability together.
        seed: The same seed gives the same texts.
        stop: End a text before any of these strings.
        include_prompt: Show the prompt before the text that goes on from it.
        whole_sentences: Cut a text after its last full sentence; one without a full sentence is kept
            whole.
        most_characters: Most characters of a text, counted as a person counts; cut at a sentence's or
            word's end (0: no limit).
        more: Other settings by name, such as {recapitalize: true, repetition_penalty: 1.2}.
        texts: The group's texts; those that are there already are kept.
        metrics: The main figures.
    """
    from textmill import artifacts
    from textmill import generate_groups as stage

    settings = stage.GroupSettings.from_dict(
        {
            "group": group,
            "number": number,
            "length": length,
            "temperature": temperature,
            "top_k": top_k,
            "top_p": top_p,
            "seed": seed,
            "stop": stop,
            "include_prompt": include_prompt,
            "whole_sentences": whole_sentences,
            "most_characters": most_characters,
            **more,
        }
    )
    summary = stage.generate_group(checkpoint.path, prompts.path, texts.path, settings)
    texts.metadata.update(artifacts.metadata(texts.path, "texts", parent_uri=checkpoint.uri))
    metrics.metadata.update(artifacts.metrics(summary))
