"""corpus -> a corpus of some of its items"""

from kfp import dsl

from components import pinned_image


@dsl.component(base_image=pinned_image(), install_kfp_package=False)
def take_items(
    corpus: dsl.Input[dsl.Dataset],
    taken: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    items: str = "",
):
    """Make a corpus of some items (files) of another one.

    Args:
        corpus: What ingest made.
        items: Items (files) of the corpus: names or globs, with commas between (empty: all).
        taken: The corpus of these items; it stays the same when other items change.
        metrics: The main figures.
    """
    from textmill import artifacts
    from textmill.corpora import items as stage

    summary = stage.take_items(corpus.path, taken.path, stage.ItemsSettings.of(items=items))
    taken.metadata.update(artifacts.metadata(taken.path, "corpus", parent_uri=corpus.uri))
    metrics.metadata.update(artifacts.metrics(summary))
