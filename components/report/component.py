"""dataset, checkpoint, texts -> what a person looks at"""

from kfp import dsl

from components import pinned_image


@dsl.component(base_image=pinned_image(), install_kfp_package=False)
def report(
    dataset: dsl.Input[dsl.Dataset],
    checkpoint: dsl.Input[dsl.Model],
    report: dsl.Output[dsl.HTML],
    card: dsl.Output[dsl.Markdown],
    metrics: dsl.Output[dsl.Metrics],
    texts: dsl.Input[dsl.Dataset] = None,
    title: str = "",
    most_texts: int = 12,
    longest_text: int = 6000,
):
    """Make one HTML page and a Markdown card of a run: losses, texts, what was copied, settings and lineage.

    Args:
        dataset: What the model was trained on.
        checkpoint: What train made.
        texts: What generate made; may be left out.
        title: Heading of the report (empty: the model's name and preset; of the address of an item's corpus: its name).
        most_texts: Show at most this many texts.
        longest_text: Show at most this many characters of each text.
        report: One self-contained page.
        card: The same in a few lines.
        metrics: The main figures.
    """
    from textmill import artifacts
    from textmill import report as stage

    settings = stage.ReportSettings.of(
        title=title,
        most_texts=most_texts,
        longest_text=longest_text,
    )
    summary = stage.report(
        dataset.path, checkpoint.path, texts and texts.path, report.path, card.path, settings
    )
    metrics.metadata.update(artifacts.metrics(summary))
