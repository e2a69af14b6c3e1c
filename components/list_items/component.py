"""corpus -> a corpus of each of its items, to loop over"""

from kfp import dsl

from components import pinned_image


@dsl.component(base_image=pinned_image(), install_kfp_package=False)
def list_items(
    corpus: dsl.Input[dsl.Dataset],
    shelf: dsl.Output[dsl.Artifact],
    items: str = "",
    minimum_characters: int = 1,
) -> list:
    """Make a corpus of each item (file) of a corpus, for a pipeline with one chain of tasks for each of them.

    Args:
        corpus: What ingest made.
        items: Items (files) of the corpus: names or globs, with commas between (empty: all).
        minimum_characters: Leave out items with fewer characters of text.
        shelf: Which corpora there are, and where; or the corpora themselves, where the pod may not write to the store.

    Returns:
        The address of each item's corpus, in order; an item that did not change has the one of earlier runs.
    """
    from textmill.corpora import items as stage
    from textmill.stores.shelf import keep

    settings = stage.ListSettings.of(items=items, minimum_characters=minimum_characters)
    names = stage.take_apart(corpus.path, shelf.path, settings)
    return keep(shelf.path, shelf.uri, names)
