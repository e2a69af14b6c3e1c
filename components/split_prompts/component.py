"""prompts -> groups of texts, to loop over"""

from kfp import dsl

from components import pinned_image


@dsl.component(base_image=pinned_image(), install_kfp_package=False)
def split_prompts(
    prompts: dsl.Output[dsl.Dataset],
    source: str = "",
    prompt: str = "",
    number: int = 1,
    groups: int = 0,
) -> list:
    """Bring a file of prompts, and divide the texts that they ask for into groups for generate_group, in parallel.

    Args:
        source: File with a prompt a line, or .jsonl with settings of its own beside each: a path, s3://,
            gs:// or https:// (empty: the one prompt).
        prompt: Text to go on from (empty: the start of a line or document).
        number: Texts for each prompt.
        groups: Into how many groups the texts are divided (0: one for each 1,000 or so).
        prompts: The prompts, a line each.

    Returns:
        The groups' names, ranges of the texts' numbers such as 0:250.
    """
    from textmill import generate_groups as stage

    settings = stage.PromptsSettings.of(source=source, prompt=prompt, number=number, groups=groups)
    return stage.split_prompts(prompts.path, settings)
