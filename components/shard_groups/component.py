"""corpus -> groups of its shards, to loop over"""

from kfp import dsl

from components import pinned_image


@dsl.component(base_image=pinned_image(), install_kfp_package=False)
def shard_groups(corpus: dsl.Input[dsl.Dataset], groups: int = 0) -> list:
    """Divide the shards of a corpus into groups of about the same size, for normalize_shards to clean in parallel.

    Args:
        corpus: What ingest made.
        groups: How many groups (0: one for each 3 GB of text or so, at most 16).

    Returns:
        The groups' names, ranges of the corpus's items such as 12:40.
    """
    from textmill import normalize as stage

    return stage.shard_groups(corpus.path, stage.GroupsSettings.of(groups=groups))
