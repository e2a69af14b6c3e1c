"""source -> corpus"""

from kfp import dsl

from components import pinned_image


@dsl.component(base_image=pinned_image(), install_kfp_package=False)
def ingest(
    source: str,
    corpus: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    pattern: str = "",
    text_field: str = "text",
    csv_header: str = "auto",
    fallback_encoding: str = "cp1252",
    strict: bool = False,
    max_bytes: int = 4294967296,
    earlier: str = "",
):
    """Read texts from a file, folder, archive, address or bucket into a corpus.

    Args:
        source: What to read: a file, folder, glob, archive (.zip .tar .tar.gz .tar.zst), compressed
            file (.gz .zst), http(s)://, s3://, gs:// address, sample:play, sample:posts,
            sample:episodes; crawl:, mediawiki:, feeds:, mastodon:, bluesky:, x: with a YAML file, an
            address or YAML as text; or a format and a place, such as epub:books/. docs/collecting.md
            and docs/dumps_and_posts.md tell more.
        pattern: Which files of a folder, archive or bucket: a glob such as 'plays/**/*.txt'; without a
            slash it is the file's name. Empty: every .txt, .csv and .jsonl, compressed or not.
        text_field: The column of a .csv, and the field of a .jsonl, that holds the text.
        csv_header: Does a .csv of one column begin with a header? auto: yes when that is text_field or
            a single word.
        fallback_encoding: The encoding of files that are not UTF-8; empty: there is none, and they are
            bad files.
        strict: Stop at the first bad file or line; otherwise it is reported and skipped.
        max_bytes: The most bytes that one file, or one archive as a whole, may unpack to.
        earlier: The corpus of an earlier run, so that only what is new is read: the address of its
            artifact (s3://, minio://, gs://) or a folder. With * in it the newest that matches is taken,
            and none yet is no error. Empty: everything is read.
        corpus: The texts, a document a line, in shards named by their content.
        metrics: The main figures.
    """
    from textmill import artifacts
    from textmill import ingest as stage

    settings = stage.IngestSettings.of(
        pattern=pattern,
        text_field=text_field,
        csv_header=csv_header,
        fallback_encoding=fallback_encoding,
        strict=strict,
        max_bytes=max_bytes,
    )
    summary = stage.ingest(source, corpus.path, settings, earlier)
    corpus.metadata.update(artifacts.metadata(corpus.path, "corpus"))
    metrics.metadata.update(artifacts.metrics(summary))
