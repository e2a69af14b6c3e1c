"""a group of a corpus's shards -> parts, cleaned"""

from kfp import dsl

from components import pinned_image


@dsl.component(base_image=pinned_image(), install_kfp_package=False)
def normalize_shards(
    corpus: dsl.Input[dsl.Dataset],
    parts: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    group: str = "",
    rules: str = "unicode_repair,whitespace",
    near_duplicates: float = 0.8,
):
    """Clean a group of a corpus's shards: the part of normalize that needs no other shards. normalize_merge goes on.

    Args:
        corpus: What ingest made.
        group: Items of the corpus to clean, a range such as 12:40 (empty: all).
        rules: Rule sets to apply, in this order, with commas between; parameters in parentheses:
            language(en de).
        near_duplicates: Drop documents of which this share of word 5-grams stood in one before (0: keep
            all).
        parts: A cleaned part for each shard, with what normalize_merge must know of it.
        metrics: The main figures.
    """
    from textmill import artifacts
    from textmill import normalize as stage

    settings = stage.ShardsSettings.of(group=group, rules=rules, near_duplicates=near_duplicates)
    summary = stage.normalize_shards(corpus.path, parts.path, settings)
    parts.metadata.update(artifacts.metadata(parts.path, "parts", parent_uri=corpus.uri))
    metrics.metadata.update(artifacts.metrics(summary))
