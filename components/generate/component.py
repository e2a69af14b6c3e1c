"""checkpoint -> texts"""

from kfp import dsl

from components import pinned_image


@dsl.component(base_image=pinned_image(), install_kfp_package=False)
def generate(
    checkpoint: dsl.Input[dsl.Model],
    texts: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    dataset: dsl.Input[dsl.Dataset] = None,
    prompt: str = "",
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
    """Write new texts with a trained model, and measure what they copy from its training text.

    Args:
        checkpoint: What train made.
        dataset: What the model was trained on, to tell what was copied; may be left out.
        prompt: Text to go on from (empty: the start of a line or document).
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
        texts: The texts: texts.jsonl with prompt, text, seed and scores a line, texts.txt to read.
        metrics: The main figures.
    """
    from textmill import artifacts
    from textmill import generate as stage

    settings = stage.GenerateSettings.from_dict(
        {
            "prompt": prompt,
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
    summary = stage.generate(checkpoint.path, texts.path, settings, dataset=dataset and dataset.path)
    texts.metadata.update(artifacts.metadata(texts.path, "texts", parent_uri=checkpoint.uri))
    metrics.metadata.update(artifacts.metrics(summary))
