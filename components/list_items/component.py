"""corpus -> the names of its items, to loop over"""

from kfp import dsl

from components import pinned_image


@dsl.component(base_image=pinned_image(), install_kfp_package=False)
def list_items(corpus: dsl.Input[dsl.Dataset], items: str = "", minimum_characters: int = 1) -> list:
    """List the items (files) of a corpus, for a pipeline with one chain of tasks for each of them.

    Args:
        corpus: What ingest made.
        items: Items (files) of the corpus: names or globs, with commas between (empty: all).
        minimum_characters: Leave out items with fewer characters of text.

    Returns:
        The items' names, in order.
    """
    from textmill.corpora import items as stage

    settings = stage.ListSettings.of(items=items, minimum_characters=minimum_characters)
    return stage.list_items(corpus.path, settings)
