"""The command line: each verb is a stage, or runs a pipeline of stages. Options are made from the stages' settings.

Knows how to read arguments and how to end: one line and the error's exit code, never a traceback for a user's error.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import click

from textmill import __version__
from textmill.commands.cluster import doctor, runs, submit, watch
from textmill.commands.models import models
from textmill.commands.options import named_values, settings_options
from textmill.commands.serve import serve
from textmill.devices import WRITING_PRECISIONS
from textmill.errors import InputError, TextmillError

log = logging.getLogger("textmill")

Folder = click.Path(path_type=Path)


class Main(click.Group):
    """Turns our errors into one line; lists the verbs in the order of the way of the text."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(self.commands)

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except TextmillError as error:
            if context.params.get("verbose"):
                raise
            click.echo(f"textmill: {error}", err=True)
            context.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo("textmill: stopped.", err=True)
            context.exit(130)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            context.exit(0)


@click.group(cls=Main, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="textmill")
@click.option("-v", "--verbose", is_flag=True, help="Say more, and show the traceback of an error.")
@click.option("-q", "--quiet", is_flag=True, help="Say only what went wrong.")
def main(verbose: bool, quiet: bool) -> None:
    """From a body of text to a trained, measured text generator.

    \b
    The stages, each from folders to a folder:
      ingest      SOURCE     -> corpus        files, archives, URLs, buckets
      normalize   CORPUS     -> dataset       rules, duplicates, split, tokens
      train       DATASET    -> checkpoint    char-GRU, word-LSTM or GPT-2; goes on where it was stopped
      generate    CHECKPOINT -> texts         new text, and what of it was copied
      serve       CHECKPOINT -> HTTP          a service for many at once, with a page
    Or all of them at once, as a compiled pipeline:  textmill run quickstart
    """
    level = logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO
    logging.basicConfig(stream=sys.stderr, format="%(message)s", level=logging.WARNING)
    log.setLevel(level)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def _stage(module: str, name: str) -> Any:
    return getattr(importlib.import_module(f"textmill.{module}"), name)


def _say_done(what: str, folder: Path, figures: dict[str, Any]) -> None:
    shown = ", ".join(f"{k} {_figure(v)}" for k, v in figures.items() if isinstance(v, int | float | str))
    log.info("%s in %s: %s", what, folder, shown)


def _texts_of(file: Path, lines: bool) -> list[str]:
    """The text of a file, or each of its lines that is not empty."""
    try:
        data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        text = data.decode()
    except OSError as error:
        raise InputError(f"cannot read the file {file}: {error.strerror}.") from error
    except UnicodeDecodeError:
        raise InputError(f"the file {file} is not UTF-8 text.") from None
    return [line for line in text.splitlines() if line.strip()] if lines else [text.removesuffix("\n")]


def _say_plan(plan: Any) -> None:
    """A line for each item, then how many of each."""
    for row in plan.items:
        click.echo(f"{row['item']}: {row['what']}")
    counts = Counter(row["what"] for row in plan.items)
    for line in [*plan.notes, ", ".join(f"{count:,} {what}" for what, count in counts.most_common(10))]:
        click.echo(line)


def _figure(value: Any) -> str:
    return (
        f"{value:,.4g}"
        if isinstance(value, float)
        else f"{value:,}"
        if isinstance(value, int)
        else str(value)
    )


def _add_stages() -> None:
    """The stages' verbs. Their settings are light to import; what they compute with is imported when they run."""
    from textmill.generate import GenerateSettings
    from textmill.ingest import IngestSettings
    from textmill.normalize import NormalizeSettings
    from textmill.training.settings import TrainSettings

    @main.command()
    @click.argument("source")
    @click.option(
        "-o", "--out", type=Folder, default=Path("corpus"), show_default=True, help="The corpus folder."
    )
    @click.option(
        "--dry-run", is_flag=True, help="Say what would be read or fetched, and fetch and write no text."
    )
    @click.option(
        "--earlier",
        default="",
        metavar="PLACE",
        help="A corpus to go on from while there is none in the folder: a folder, s3:// or gs://; with * the newest.",
    )
    @settings_options(IngestSettings, "ingest")
    def ingest(source: str, out: Path, dry_run: bool, earlier: str, settings: IngestSettings) -> None:
        """Read SOURCE into a corpus folder; only what changed is read again.

        \b
        SOURCE is a file, a folder, a glob, an archive (.zip .tar .tar.gz .tar.zst), a compressed file (.gz .zst),
        http(s)://, s3://, gs://, or sample:play, sample:posts, sample:episodes. Texts are .txt, .csv and .jsonl.

        \b
        Collected from the web, politely and only what changed (pip install 'textmill[crawl]'):
          crawl:SITE      pages of a site by their links      mediawiki:WIKI  pages of a wiki by its API
          feeds:FEED      entries of RSS and Atom feeds, or the articles behind them
        each given as a YAML file (crawl:site.yaml, here or at s3://, https://…), as an address (feeds:https://…,
        mediawiki:https://wiki/api.php?category=Plays), as a list (feeds:list.txt), or as the YAML itself:
          'crawl:{start: [https://example.org/plays/], follow: ["/plays/*"], delay: 2}'
        What a description may say stands in docs/collecting.md.

        \b
        Posts, a query a line (pip install 'textmill[social]'): mastodon:queries.txt bluesky:queries.txt x:queries.txt
        Formats, FORMAT:PLACE: epub, pdf, html, markdown, subtitles, fountain, fdx, parquet, gutenberg, wikitext,
        x-archive, mastodon-archive. Both stand in docs/dumps_and_posts.md.
        """
        if dry_run:
            _say_plan(_stage("ingest", "plan")(source, out, settings, earlier))
            return
        _say_done("corpus", out, _stage("ingest", "ingest")(source, out, settings, earlier))

    @main.command()
    @click.argument("corpus", type=Folder)
    @click.option(
        "-o", "--out", type=Folder, default=Path("dataset"), show_default=True, help="The dataset folder."
    )
    @click.option("--base", type=Folder, help="A model to fine-tune: the dataset gets its tokenizer.")
    @settings_options(NormalizeSettings, "normalize")
    def normalize(corpus: Path, out: Path, base: Path | None, settings: NormalizeSettings) -> None:
        """Clean a corpus, drop duplicates, split it and turn it into tokens."""
        _say_done("dataset", out, _stage("normalize", "normalize")(corpus, out, settings, base))

    @main.command()
    @click.argument("dataset", type=Folder)
    @click.option(
        "-o",
        "--out",
        type=Folder,
        default=Path("checkpoint"),
        show_default=True,
        help="The checkpoint folder.",
    )
    @settings_options(TrainSettings, "train")
    def train(dataset: Path, out: Path, settings: TrainSettings) -> None:
        """Train a model; stopped or killed, the same command goes on from the last saved state.

        \b
        Presets: char-gru tiny, small, shakespeare; word-lstm tiny, test, small, medium, large;
        gpt2 tiny, small (from scratch), 124M, 355M, 774M, 1558M (with --base).
        """
        _say_done("checkpoint", out, _stage("train", "train")(dataset, out, settings))

    @main.command()
    @click.argument("checkpoint", type=Folder)
    @click.option(
        "-o", "--out", type=Folder, default=Path("texts"), show_default=True, help="The texts folder."
    )
    @click.option(
        "--prompts",
        type=Folder,
        help='File with a prompt a line, or .jsonl: {"prompt": …, "length": …} a line.',
    )
    @click.option(
        "--dataset", type=Folder, help="The dataset it was trained on: tells what of the text was copied."
    )
    @settings_options(GenerateSettings, "generate")
    def generate(
        checkpoint: Path, out: Path, prompts: Path | None, dataset: Path | None, settings: GenerateSettings
    ) -> None:
        """Write new texts with a trained model."""
        _say_done(
            "texts",
            out,
            _stage("generate", "generate")(checkpoint, out, settings, prompts=prompts, dataset=dataset),
        )
        click.echo((out / "texts.txt").read_text(encoding="utf-8").rstrip())

    @main.command()
    @click.argument("checkpoint", type=Folder)
    @settings_options(GenerateSettings, "generate")
    def play(checkpoint: Path, settings: GenerateSettings) -> None:
        """Write text to the terminal without end, wrapped at 100, until Ctrl-C."""
        _stage("play", "play")(checkpoint, settings)

    @main.command()
    @click.argument("checkpoint", type=Folder)
    @click.argument("texts", nargs=-1)
    @click.option("--file", type=Folder, help="File that holds a text; - reads it from stdin.")
    @click.option("--lines", is_flag=True, help="Each line of the file is a text.")
    @click.option(
        "--precision",
        type=click.Choice(WRITING_PRECISIONS),
        default="float32",
        show_default=True,
    )
    def score(
        checkpoint: Path, texts: tuple[str, ...], file: Path | None, lines: bool, precision: str
    ) -> None:
        """Say how likely a model finds each of TEXTS: its perplexity, tokens, and nats a token.

        A perplexity compares with those of models with the same tokens only.
        """
        asked = list(texts)
        if file is not None:
            asked += _texts_of(file, lines)
        if not asked:
            raise InputError("there is nothing to score: give a text, or --file FILE.")
        for text, found in zip(asked, _stage("generate", "score")(checkpoint, asked, precision), strict=True):
            shown = " ".join(text.split())
            nats = f"{found.tokens:,} tokens, {found.mean_log_probability:.3f} nats each"
            click.echo(f"{found.perplexity:,.2f}  ({nats})  {shown[:59] + '…' if len(shown) > 60 else shown}")

    @main.command()
    @click.option("--dataset", type=Folder, required=True)
    @click.option("--checkpoint", type=Folder, required=True)
    @click.option("--texts", type=Folder, required=True)
    @click.option(
        "-o", "--out", type=Folder, default=Path("report.html"), show_default=True, help="The HTML file."
    )
    def report(dataset: Path, checkpoint: Path, texts: Path, out: Path) -> None:
        """Make one HTML page of a run: losses, samples, what was copied, settings."""
        _say_done(
            "report", out, _stage("report", "report")(dataset, checkpoint, texts, out, out.with_suffix(".md"))
        )

    @main.command()
    @click.argument("pipeline")
    @click.option(
        "-p",
        "--param",
        multiple=True,
        metavar="NAME=VALUE",
        help="A parameter of the pipeline; may be repeated.",
    )
    @click.option(
        "-o",
        "--output",
        type=Folder,
        default=Path("out"),
        show_default=True,
        help="Where everything is written.",
    )
    @click.option("--describe", is_flag=True, help="List the pipeline's parameters and stop.")
    @click.pass_context
    def run(
        context: click.Context, pipeline: str, param: tuple[str, ...], output: Path, describe: bool
    ) -> None:
        """Run a compiled pipeline on this machine, as a cluster would: PIPELINE.yaml, or a recipe's name.

        \b
        Recipes: quickstart, script_train, script_generate, script_word_lstm, play_char_gru, tweets_gpt2,
        episodes_gpt2, large_corpus_gpt2, batch_generate.
        Example: textmill run quickstart --param source=my_texts/ --output out
        """
        from textmill.local.running import run_pipeline
        from textmill.pipeline_file import read_pipeline

        if describe:
            click.echo(read_pipeline(pipeline).describe())
            return
        verbose = bool(context.parent and context.parent.params["verbose"])
        run_pipeline(pipeline, named_values(param), output, verbose=verbose)


_add_stages()
main.add_command(serve)
main.add_command(models)
for _command in (submit, runs, watch, doctor):
    main.add_command(_command)

if __name__ == "__main__":
    main()
