"""The pages of docs/ that are written from the code: components, settings, and the command line.

Knows the code's tables and how to lay them out, and says little of its own. `tools/readmes.py` writes them.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
HEAD = "<!-- Written by tools/docs_pages.py from {}; change those and run: make compile -->"
WIDTH = 100  # columns of a command's help

# Components in the order of a text's way, then those that loops are made of. One that is not named here comes last.
COMPONENTS = {
    "The stages": ["ingest", "normalize", "train", "generate", "report", "serve", "pull"],
    "To loop over queries, shows or authors": ["list_items"],
    "To normalize in pods side by side": ["shard_groups", "normalize_shards", "normalize_merge"],
    "To write in pods side by side": ["split_prompts", "generate_group", "merge_texts"],
}

# Environment variables that are no setting's: what each is for. Secrets come this way alone.
ENVIRONMENT = {
    "Secrets": {
        "TEXTMILL_SERVE_TOKEN": "The bearer token that `textmill serve` asks for, beside those of `token_file`.",
        "KFP_TOKEN": "The token for Kubeflow Pipelines' API, where the server wants one.",
        "MASTODON_ACCESS_TOKEN": "An access token of the Mastodon server; sent to that server alone.",
        "BLUESKY_HANDLE": "A Bluesky handle, with `BLUESKY_APP_PASSWORD`.",
        "BLUESKY_APP_PASSWORD": "An app password of that handle, not the account's own.",
        "X_BEARER_TOKEN": "The bearer token of an app with paid access to X.",
        "AWS_ACCESS_KEY_ID": "S3 and its like: the key, with `AWS_SECRET_ACCESS_KEY`; whatever boto3 finds besides.",
        "AWS_SECRET_ACCESS_KEY": "S3 and its like: the secret of that key.",
        "MINIO_ACCESS_KEY": "S3 and its like, where boto3 finds no credentials: the key.",
        "MINIO_SECRET_KEY": "S3 and its like: the secret of that key.",
        "GOOGLE_APPLICATION_CREDENTIALS": "Google Cloud Storage: the file of a service account's key.",
    },
    "Where things are": {
        "KFP_ENDPOINT": "Address of Kubeflow Pipelines' API server, where `--endpoint` is not given.",
        "KF_PIPELINES_ENDPOINT": "The same, as kfp's own command line names it.",
        "KUBECONFIG": "The cluster that kubectl talks to.",
        "AWS_ENDPOINT_URL_S3": "Address of the S3 store; then `AWS_ENDPOINT_URL`, then `S3_ENDPOINT`.",
        "AWS_ENDPOINT_URL": "The same for all of AWS.",
        "S3_ENDPOINT": "Host and port of the S3 store, as Kubeflow Pipelines names it, with `S3_USE_HTTPS`.",
        "S3_USE_HTTPS": "Whether `S3_ENDPOINT` speaks https: 0 or 1.",
        "AWS_REGION": "The region; else `AWS_DEFAULT_REGION`.",
        "AWS_DEFAULT_REGION": "The region, where `AWS_REGION` is not set.",
        "STORAGE_EMULATOR_HOST": "Address of a stand-in for Google Cloud Storage, without credentials.",
        "GOOGLE_CLOUD_PROJECT": "The project that such a stand-in is told.",
        "XDG_CACHE_HOME": "Where the service keeps fetched checkpoints and where compiled kernels are kept, below "
        "`textmill/` (else `~/.cache`).",
        "TEXTMILL_KERNELS": "A folder with kernels that were compiled before, such as the images'. It is trusted "
        "as code is.",
        "TEXTMILL_STATE_ROOT": "Where `train` keeps its state when its output folder is not the same one at the "
        "next try; `textmill run` sets it.",
        "CUDA_VISIBLE_DEVICES": "The GPUs that a training sees.",
    },
}


def pages() -> dict[Path, str]:
    """Path -> text of each page."""
    return {
        ROOT / "docs" / "components.md": components_page(),
        ROOT / "docs" / "settings.md": settings_page(),
        ROOT / "docs" / "command_line.md": command_line_page(),
    }


# ---------------------------------------------------------------------- components


def components_page() -> str:
    """Every component: what it does, what goes in, what it can be told, what comes out."""
    parts = [
        "# Components",
        HEAD.format("components/*/component.py"),
        "Each is a Kubeflow Pipelines component: a compiled `component.yaml`, and a Python function to build pipelines "
        "with. Artifacts are folders with a `manifest.json`, which says what they were made from; a damaged one is "
        "refused. What a parameter accepts is checked before the first slow act, and a wrong value ends the task with "
        "one line. [Settings](settings.md) has those that only the command line knows.",
    ]
    found = components()
    for title, names in found.items():
        parts.append(f"**{title}:** " + ", ".join(f"[{name}](#{name})" for name in names) + ".")
    for names in found.values():
        for name in names:
            parts += _component(name)
    return "\n\n".join(parts) + "\n"


def components() -> dict[str, list[str]]:
    """The components that are there, by group and in order."""
    there = {path.parent.name for path in (ROOT / "components").glob("*/component.py")}
    rest = sorted(there.difference(*COMPONENTS.values()))
    found = {title: [name for name in names if name in there] for title, names in COMPONENTS.items()}
    return found | ({"Others": rest} if rest else {})


def _component(name: str) -> list[str]:
    import docstring_parser
    import yaml
    from kfp import dsl

    function = _function(name)
    doc = docstring_parser.parse(inspect.getdoc(function) or "")
    said = {p.arg_name: " ".join((p.description or "").split()) for p in doc.params}
    facts = yaml.safe_load((ROOT / "components" / name / "metadata.yaml").read_text(encoding="utf-8"))
    cls = _settings_of(name)
    fields = {field.name: field for field in dataclasses.fields(cls)} if cls else {}
    inputs, parameters, outputs = [], [], []
    for parameter in inspect.signature(function).parameters.values():
        kind = parameter.annotation
        artifact = typing.get_args(kind)[0] if typing.get_args(kind) else None
        what = cell(said[parameter.name])
        if artifact is None:
            default = "required" if parameter.default is inspect.Parameter.empty else shown(parameter.default)
            field = fields.get(parameter.name)
            accepts = accepted(field) if field else ""
            parameters.append(f"| `{parameter.name}` | {what} | {kind.__name__} | {default} | {accepts} |")
        elif dsl.Output[artifact] == kind:
            outputs.append(f"| `{parameter.name}` | {what} | {artifact.__name__} |")
        else:
            optional = " Optional." if parameter.default is None else ""
            inputs.append(f"| `{parameter.name}` | {what}{optional} | {artifact.__name__} |")
    returned = inspect.signature(function).return_annotation
    if returned is not inspect.Signature.empty:
        what = cell(" ".join((doc.returns.description or "").split()))  # type: ignore[union-attr]
        outputs.append(f"| `Output` | {what} | {getattr(returned, '__name__', returned)} |")
    summary = " ".join(
        text for text in (doc.short_description, " ".join((doc.long_description or "").split())) if text
    )
    return [
        f"## {name}",
        summary,
        *table("goes in | what it is | type", inputs),
        *table("parameter | what it does | type | default | accepts", parameters),
        *table("comes out | what it is | type", outputs),
        f"[components/{name}](../components/{name}/README.md) · stability {facts['stability']} · "
        f"{', '.join(facts['tags'])}",
    ]


def _function(name: str) -> Any:
    return getattr(importlib.import_module(f"components.{name}.component"), name).python_func


def _settings_of(name: str) -> Any:
    """The settings class that a component's body hands its parameters to; None where it has none."""
    body = inspect.getsource(_function(name))
    module = re.search(r"from (textmill[\w.]*) import (\w+) as stage", body)
    found = re.search(r"stage\.(\w+Settings)\.", body)
    return (
        getattr(importlib.import_module(f"{module[1]}.{module[2]}"), found[1]) if module and found else None
    )


# ---------------------------------------------------------------------- settings


@dataclasses.dataclass(frozen=True)
class Group:
    """A table of settings: its title, what stands above it, the class, and the section of the environment and file.

    section: "" where the settings have no options: keys of a description, fields of a preset, parameters.
    without: a class whose fields stand in a table of their own.
    """

    title: str
    text: str
    cls: type
    section: str = ""
    without: type | None = None


def groups() -> dict[str, list[Group]]:
    """Heading -> its tables."""
    from textmill.cluster.connection import ConnectionSettings
    from textmill.cluster.submit import SubmitSettings
    from textmill.cluster.watch import WatchSettings
    from textmill.datasets.settings import NormalizeSettings
    from textmill.doctor import DoctorSettings
    from textmill.ingest import IngestSettings
    from textmill.models.gpt2 import GPT2Config
    from textmill.models.rnn import RNNConfig
    from textmill.models.schedules import RecurrentSchedule, TransformerSchedule
    from textmill.rules import RULES
    from textmill.serving.settings import ServeSettings
    from textmill.sources.crawl import CrawlSettings
    from textmill.sources.described import PoliteSettings
    from textmill.sources.feeds import FeedsSettings
    from textmill.sources.mediawiki import MediaWikiSettings
    from textmill.sources.social import SocialSettings
    from textmill.sources.x import XSettings
    from textmill.training.settings import TrainSettings
    from textmill.writing.settings import GenerateSettings

    polite = "Keys of the description, beside those of [every collector](#every-collector)."
    overrides = "With `--set NAME=VALUE`, or in `overrides`; a preset has its own values (below)."
    found = {
        "Collecting": [
            Group("ingest", "", IngestSettings, "ingest"),
            Group("every collector", "Keys of a [description](collecting.md).", PoliteSettings),
            Group("crawl", polite, CrawlSettings, without=PoliteSettings),
            Group("feeds", polite, FeedsSettings, without=PoliteSettings),
            Group("mediawiki", polite, MediaWikiSettings, without=PoliteSettings),
            Group("mastodon and bluesky", polite, SocialSettings, without=PoliteSettings),
            Group("x", "And those of mastodon and bluesky.", XSettings, without=SocialSettings),
        ],
        "Normalizing": [
            Group("normalize", "", NormalizeSettings, "normalize"),
            *(
                Group(f"rule {name}", "Behind the rule's name in parentheses.", rule.parameters)
                for name, rule in RULES.items()
                if rule.parameters
            ),
        ],
        "Training": [
            Group("train", "", TrainSettings, "train"),
            Group("sizes of char-gru and word-lstm", overrides, RNNConfig),
            Group("schedule of char-gru and word-lstm", overrides, RecurrentSchedule),
            Group("sizes of gpt2", overrides, GPT2Config),
            Group("schedule of gpt2", overrides, TransformerSchedule),
        ],
        "Writing": [
            Group("generate", "`textmill play` has the same.", GenerateSettings, "generate"),
        ],
        "Serving": [
            Group("serve", "", ServeSettings, "serve"),
        ],
        "On a cluster": [
            Group("runs", "What every verb that talks to a cluster has.", ConnectionSettings, "submit"),
            Group("submit", "", SubmitSettings, "submit"),
            Group("watch", "", WatchSettings, "watch"),
            Group("doctor", "", DoctorSettings, "submit"),
        ],
    }
    told = {group.cls for tables in found.values() for group in tables}
    alone = [(name, cls) for names in components().values() for name in names if (cls := _settings_of(name))]
    text = "Parameters of the component [{0}](components.md#{0})."
    found["Components that are no command"] = [
        Group(
            f"component {name}",
            text.format(name),
            cls,
            without=GenerateSettings if name == "generate_group" else None,
        )
        for name, cls in alone
        if cls not in told
    ]
    return found


def settings_page() -> str:
    """Every setting: what it does, its type, default and range, its option and its environment variable."""
    parts = [
        "# Settings",
        HEAD.format("the settings' classes"),
        "Where a setting is given twice, an option wins over the environment variable, which wins over the file, which "
        "wins over the default. The file is given as `--config FILE` and holds the settings below their stage's name:",
        "```yaml\ntrain:\n  model: gpt2\n  preset: 124M\n  overrides: {steps: 1000, batch_size: 2}\n"
        "generate:\n  temperature: 0.8\n```",
        "Components take them as parameters of the same names ([components](components.md)). An unknown name, a wrong "
        "type or a value out of range ends the program with one line, before it does anything.",
    ]
    for heading, tables in groups().items():
        parts.append(f"## {heading}")
        for group in tables:
            parts += [f"### {group.title}", *([group.text] if group.text else []), *_settings_table(group)]
        if heading == "Training":
            parts += _presets()
    parts += [
        "## Other environment variables",
        "No secret is an option or a setting: it would stand in a process list, a manifest or a pipeline's run.",
    ]
    for title, names in ENVIRONMENT.items():
        rows = [f"| `{name}` | {what} |" for name, what in names.items()]
        parts += table(f"{title} | what it is for", rows)
    return "\n\n".join(parts) + "\n"


def _settings_table(group: Group) -> list[str]:
    rows, section = [], group.section
    left_out = set(group.without.kinds()) if group.without else set()  # type: ignore[attr-defined]
    for field in dataclasses.fields(group.cls):
        if field.name in left_out:
            continue
        kind = kind_of(group.cls.kinds()[field.name])  # type: ignore[attr-defined]
        row = [
            f"`{field.name}`",
            cell(field.metadata["help"]),
            kind,
            shown(default_of(field)),
            accepted(field),
        ]
        if section:
            flag = "set NAME=VALUE" if field.name == "overrides" else field.name.replace("_", "-")
            no = "[no-]" if kind == "bool" else ""
            row += [f"`--{no}{flag}`", f"`TEXTMILL_{section.upper()}_{field.name.upper()}`"]
        rows.append("| " + " | ".join(row) + " |")
    columns = "setting | what it does | type | default | accepts"
    return table(columns + (" | option | environment" if section else ""), rows)


def _presets() -> list[str]:
    from textmill.models import MODELS

    parts = ["### presets", "What each preset of a model sets; the rest is as above."]
    for name, family in MODELS.items():
        found = {preset: {**row["model"], **row["train"]} for preset, row in family.presets.items()}
        names = dict.fromkeys(key for values in found.values() for key in values)
        rows = [
            f"| `{key}` | " + " | ".join(shown(v[key]) if key in v else "" for v in found.values()) + " |"
            for key in names
        ]
        parts += table(f"{name} | " + " | ".join(f"`{preset}`" for preset in found), rows)
    return parts


def kind_of(annotation: Any) -> str:
    """A type in words: `int`, `list`, `float or none`."""
    if isinstance(annotation, types.UnionType):
        return " or ".join(kind_of(k) for k in typing.get_args(annotation))
    if annotation is type(None):
        return "none"
    return str((typing.get_origin(annotation) or annotation).__name__)


def default_of(field: dataclasses.Field[Any]) -> Any:
    """A field's default."""
    factory = field.default_factory
    return field.default if factory is dataclasses.MISSING else factory()


def accepted(field: dataclasses.Field[Any]) -> str:
    """The values a setting accepts: its choices or its range."""
    minimum, maximum, choices = (field.metadata.get(k) for k in ("minimum", "maximum", "choices"))
    if choices:
        return ", ".join(f"`{choice}`" if choice != "" else "(empty)" for choice in choices)
    if minimum is not None and maximum is not None:
        return f"{minimum} to {maximum}"
    return (
        f"at least {minimum}" if minimum is not None else f"at most {maximum}" if maximum is not None else ""
    )


def shown(value: Any) -> str:
    """A value as one would type it."""
    if value is None:
        return "none"
    if value == "" or value == [] or value == {}:
        return "(empty)"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    return f"`{str(value).replace('|', chr(92) + '|')}`"


def cell(text: str) -> str:
    """A text within one cell of a table; what a page would take for a tag or an emphasis stays text."""
    return text.replace("<", "&lt;").replace("*", "\\*").replace("|", "\\|")


def table(columns: str, rows: list[str]) -> list[str]:
    """A table as one part of a page; none where there are no rows."""
    if not rows:
        return []
    return ["\n".join([f"| {columns} |", "|" + "---|" * (columns.count(" | ") + 1), *rows])]


# ---------------------------------------------------------------------- the command line


def command_line_page() -> str:
    """Every verb's help, as --help shows it."""
    from textmill.cli import main

    parts = [
        "# The command line",
        HEAD.format("the verbs' --help"),
        "Exit codes: 0 done; 2 your input (a path, a text, a setting); 3 the machine (a package, space, a device, a "
        "network); 1 a run that failed, or a bug of ours; 130 stopped by Ctrl-C. [Failures](failures.md) has what can "
        "go wrong, [settings](settings.md) the range of each option.",
    ]
    for path, command in _commands(main, ["textmill"]):
        parts += [f"## {' '.join(path)}", f"```text\n{_help(path, command)}\n```"]
    return "\n\n".join(parts) + "\n"


def _commands(command: Any, path: list[str]) -> Iterator[tuple[list[str], Any]]:
    yield path, command
    for name, sub in getattr(command, "commands", {}).items():
        yield from _commands(sub, [*path, name])


def _help(path: list[str], command: Any) -> str:
    import click

    context = click.Context(command, info_name=" ".join(path), terminal_width=WIDTH, max_content_width=WIDTH)
    return "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
