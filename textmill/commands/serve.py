"""`textmill serve`: a trained model behind HTTP."""

from __future__ import annotations

import click

from textmill.commands.options import settings_options
from textmill.errors import MachineError
from textmill.serving.settings import ServeSettings


@click.command()
@click.argument("checkpoint")
@settings_options(ServeSettings, "serve")
def serve(checkpoint: str, settings: ServeSettings) -> None:
    """Answer requests with text from the model in CHECKPOINT: a folder, or s3://…, gs://…, https://….

    \b
    OpenAI's POST /v1/completions (also streamed), KServe's /v2, a page at /, figures at /metrics, all of it
    described at /openapi.json. Requests are written side by side; the same seed gives the same text.
    docs/serving.md says the rest.
    """
    try:
        from textmill.serving.server import serve as run
    except ModuleNotFoundError as error:
        raise MachineError(
            f"the service needs the package {error.name}: pip install 'textmill[serve]'."
        ) from error
    run(checkpoint, settings)
