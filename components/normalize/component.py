"""corpus -> dataset"""

from kfp import dsl

from components import pinned_image


@dsl.component(base_image=pinned_image(), install_kfp_package=False)
def normalize(
    corpus: dsl.Input[dsl.Dataset],
    dataset: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    base: dsl.Input[dsl.Model] = None,
    rules: str = "unicode_repair,whitespace",
    tokenizer: str = "char",
    vocabulary: str = "train",
    minimum_count: int = 2,
    vocabulary_size: int = 8192,
    near_duplicates: float = 0.8,
    split: str = "fraction",
    valid_fraction: float = 0.05,
    test_fraction: float = 0.05,
    valid_documents: str = "",
    test_documents: str = "",
    more: dict = {},  # noqa: B006
):
    """Clean a corpus, drop duplicates, split it into train, valid and test, and turn it into tokens.

    Args:
        corpus: What ingest made.
        base: A model to fine-tune, such as pull's: the dataset gets its tokenizer.
        rules: Rule sets to apply, in this order, with commas between; parameters in parentheses:
            language(en de).
        tokenizer: What a token is.
        vocabulary: Count the vocabulary on the training documents or on all.
        minimum_count: Word tokenizer: rarer words become <unk>; byte pairs: rarer pairs are not merged.
        vocabulary_size: Byte pairs: most tokens to learn, where no base brings its own.
        near_duplicates: Drop documents of which this share of word 5-grams stood in one before (0: keep
            all).
        split: How validation and test documents are chosen: a share of them, by name, or by S3's rule
            (last books).
        valid_fraction: Share of the documents to validate on.
        test_fraction: Share of the documents to test on.
        valid_documents: Split by documents: ids or globs to validate on, with commas between.
        test_documents: Split by documents: ids or globs to test on, with commas between.
        more: Other settings by name, such as {alphabet: ascii98, special_tokens: literal}.
        dataset: Token shards, the tokenizer, the cleaned text, and a report of what was changed and
            dropped.
        metrics: The main figures.
    """
    from textmill import artifacts
    from textmill import normalize as stage

    settings = stage.NormalizeSettings.from_dict(
        {
            "rules": rules,
            "tokenizer": tokenizer,
            "vocabulary": vocabulary,
            "minimum_count": minimum_count,
            "vocabulary_size": vocabulary_size,
            "near_duplicates": near_duplicates,
            "split": split,
            "valid_fraction": valid_fraction,
            "test_fraction": test_fraction,
            "valid_documents": valid_documents,
            "test_documents": test_documents,
            **more,
        }
    )
    summary = stage.normalize(corpus.path, dataset.path, settings, getattr(base, "path", None))
    dataset.metadata.update(artifacts.metadata(dataset.path, "dataset", parent_uri=corpus.uri))
    metrics.metadata.update(artifacts.metrics(summary))
