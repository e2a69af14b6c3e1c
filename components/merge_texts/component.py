"""groups of texts -> texts"""

from kfp import dsl

from components import pinned_image


@dsl.component(base_image=pinned_image(), install_kfp_package=False)
def merge_texts(
    groups: dsl.Input[list[dsl.Dataset]],
    texts: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    throughput: dsl.Output[dsl.Markdown],
):
    """Put the texts of all groups together as one generate would have written them, and say how fast they were written.

    Args:
        groups: What generate_group made of each group, in any order.
        texts: The texts: texts.jsonl with prompt, text, seed and scores a line, texts.txt to read.
        metrics: The main figures, and texts and tokens a second.
        throughput: Texts and tokens a second of each group and of all.
    """
    from textmill import artifacts
    from textmill import generate_groups as stage

    summary = stage.merge_texts(artifacts.paths(*groups), texts.path, throughput.path)
    texts.metadata.update(artifacts.metadata(texts.path, "texts"))
    metrics.metadata.update(artifacts.metrics(summary))
