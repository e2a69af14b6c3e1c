"""Textmill: from a body of text to a trained, measured and served text generator.

A stage is one plain function from folders to a folder, in the module of its name; importing the package never imports
kfp:

    source --ingest--> corpus --normalize--> dataset --train--> checkpoint --generate--> texts --report--> page

    from textmill import TrainSettings
    from textmill.train import train

What can be imported from `textmill` itself stands in `__all__`; it is fetched when it is first asked for, so that
`import textmill` costs nothing. What else is public stands in docs/api.md.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from textmill.checkpoints.pretrained import PullSettings
    from textmill.datasets.settings import NormalizeSettings
    from textmill.errors import (
        FolderError,
        InputError,
        Interrupted,
        MachineError,
        SettingsError,
        TextmillError,
    )
    from textmill.ingest import IngestSettings
    from textmill.models import MODELS
    from textmill.report import ReportSettings
    from textmill.rules import RULES
    from textmill.serving.settings import ServeSettings
    from textmill.settings import Settings
    from textmill.sources import SOURCES
    from textmill.stores import STORES
    from textmill.tokenizers import TOKENIZERS
    from textmill.training.settings import TrainSettings
    from textmill.writing.generator import Generator, Score, Text
    from textmill.writing.prompts import Prompt
    from textmill.writing.settings import GenerateSettings

_HOMES = {  # of each name the module that has it; as above
    "FolderError": "errors",
    "GenerateSettings": "writing.settings",
    "Generator": "writing.generator",
    "IngestSettings": "ingest",
    "InputError": "errors",
    "Interrupted": "errors",
    "MODELS": "models",
    "MachineError": "errors",
    "NormalizeSettings": "datasets.settings",
    "Prompt": "writing.prompts",
    "PullSettings": "checkpoints.pretrained",
    "RULES": "rules",
    "ReportSettings": "report",
    "SOURCES": "sources",
    "STORES": "stores",
    "Score": "writing.generator",
    "ServeSettings": "serving.settings",
    "Settings": "settings",
    "SettingsError": "errors",
    "TOKENIZERS": "tokenizers",
    "Text": "writing.generator",
    "TextmillError": "errors",
    "TrainSettings": "training.settings",
}

__all__ = [
    "MODELS",
    "RULES",
    "SOURCES",
    "STORES",
    "TOKENIZERS",
    "FolderError",
    "GenerateSettings",
    "Generator",
    "IngestSettings",
    "InputError",
    "Interrupted",
    "MachineError",
    "NormalizeSettings",
    "Prompt",
    "PullSettings",
    "ReportSettings",
    "Score",
    "ServeSettings",
    "Settings",
    "SettingsError",
    "Text",
    "TextmillError",
    "TrainSettings",
    "__version__",
]


def __getattr__(name: str) -> Any:
    """Fetch a name of `__all__` from its module, once. Raises AttributeError for others, MachineError where the
    module needs a package that is not installed (ReportSettings: textmill[report])."""
    if name not in _HOMES:
        raise AttributeError(f"module 'textmill' has no attribute {name!r}")
    value = getattr(import_module(f"textmill.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
