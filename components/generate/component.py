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
    length_unit: str = "tokens",
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    repetition_penalty: float = 1.0,
    seed: int = 0,
    stop: list = [],  # noqa: B006
    stop_at_end: bool = True,
    include_prompt: bool = True,
):
    """Write new texts with a trained model, and measure what they copy from its training text.

    Args:
        checkpoint: What train made.
        dataset: What the model was trained on, to tell what was copied; may be left out.
        prompt: Text to go on from (empty: the start of a line or document).
        number: Texts for each prompt.
        length: Most tokens (characters or words) of each text.
        length_unit: What length counts.
        temperature: Below 1 is safer, above 1 wilder; 0 takes the likeliest token.
        top_k: Draw from the k likeliest tokens only (0: from all); S3's topn.
        top_p: Draw from the fewest tokens that hold this probability together.
        repetition_penalty: Above 1 makes tokens that stood in the text less likely.
        seed: The same seed gives the same texts.
        stop: End a text before any of these strings.
        stop_at_end: End a text where the model ends the document.
        include_prompt: Show the prompt before the text that goes on from it.
        texts: The texts: texts.jsonl with prompt, text, seed and scores a line, texts.txt to read.
        metrics: The main figures.
    """
    from textmill import artifacts
    from textmill import generate as stage

    settings = stage.GenerateSettings.of(
        prompt=prompt,
        number=number,
        length=length,
        length_unit=length_unit,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
        stop=stop,
        stop_at_end=stop_at_end,
        include_prompt=include_prompt,
    )
    summary = stage.generate(checkpoint.path, texts.path, settings, dataset=dataset and dataset.path)
    texts.metadata.update(artifacts.metadata(texts.path, "texts", parent_uri=checkpoint.uri))
    metrics.metadata.update(artifacts.metrics(summary))
