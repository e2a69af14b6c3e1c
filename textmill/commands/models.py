"""`textmill models …`: fetch a released model or a checkpoint, write ours as others read it, say what there is."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import click

from textmill.checkpoints.pretrained import RELEASES

log = logging.getLogger("textmill")

Folder = click.Path(path_type=Path)


@click.group()
def models() -> None:
    """Models from elsewhere and for elsewhere: pull, fetch, export, show."""


@models.command()
@click.argument("release", type=click.Choice(RELEASES), default=RELEASES[0])
@click.option(
    "--from",
    "uri",
    default="",
    metavar="URI",
    help="Fetch from this folder instead of OpenAI's bucket: https://, s3://, gs://, file:// or a path, in OpenAI's "
    "or Hugging Face's format.",
)
@click.option("-o", "--out", type=Folder, help="The model's folder.  [models/RELEASE]")
def pull(release: str, uri: str, out: Path | None) -> None:
    """Fetch a GPT-2 to fine-tune; stopped, the same command goes on where it was."""
    from textmill.checkpoints.pretrained import PullSettings
    from textmill.checkpoints.pretrained import pull as stage

    folder = out or Path("models") / release
    figures = stage(folder, PullSettings.of(release=release, uri=uri))
    log.info(
        "model in %s: %s format, %s parameters, %.2f GB",
        folder,
        figures["format"],
        f"{figures['parameters']:,}",
        figures["bytes"] / 1e9,
    )


@models.command()
@click.argument("checkpoint")
@click.option("-o", "--out", type=Folder, required=True, help="The checkpoint's folder.")
@click.option(
    "--sha256",
    default="",
    metavar="DIGEST",
    help="The digest that its manifest must have: this checkpoint, no other.",
)
def fetch(checkpoint: str, out: Path, sha256: str) -> None:
    """Fetch the CHECKPOINT at s3://…, minio://…, gs://…, https://…, and check every file by its manifest.

    What is there already is kept; stopped, the same command goes on where it was.
    """
    from textmill.serving.fetching import fetch_checkpoint

    size = fetch_checkpoint(checkpoint, out, sha256)
    log.info("checkpoint in %s: %.2f GB, as its manifest says", out, size / 1e9)


@models.command()
@click.argument("checkpoint", type=Folder)
@click.option(
    "--to", "form", type=click.Choice(["openai", "huggingface"]), required=True, help="Whose format."
)
@click.option("-o", "--out", type=Folder, required=True, help="The folder to write; it must not exist.")
def export(checkpoint: Path, form: str, out: Path) -> None:
    """Write a GPT-2 (a checkpoint, or a folder in either format) as gpt-2-simple or transformers reads it.

    \b
    openai        hparams.json, encoder.json, vocab.bpe, checkpoint, model-<step>.*: gpt-2-simple, OpenAI's code
    huggingface   config.json, model.safetensors, the tokenizer: transformers, vLLM, llama.cpp's tools
    """
    from textmill.checkpoints.exporting import export_model

    log.info("wrote %s", export_model(checkpoint, form, out))


@models.command()
@click.argument("folder", type=Folder)
def show(folder: Path) -> None:
    """Say what a model's folder holds, after checking that it is whole."""
    from textmill.checkpoints.exporting import describe_model

    click.echo(json.dumps(describe_model(folder), indent=2))
