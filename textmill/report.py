"""What a person looks at after a run: one self-contained HTML page, a Markdown card, and the figures for KFP's Metrics.

Reads the dataset, checkpoint and texts folders; loads no model and no numbers but those that the stages wrote down.
The page needs no network: styles, script and charts are inside, and every value from the folders is escaped.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textmill import __version__, manifest
from textmill.corpora.items import name_of
from textmill.errors import FolderError, MachineError
from textmill.files import write_bytes
from textmill.settings import Settings, setting

try:
    from jinja2 import ChainableUndefined, Environment, FileSystemLoader
    from markupsafe import Markup

    from textmill.charts import Chart, Level, Line, number, short
    from textmill.writing.typesetting import Block, typeset
except ImportError as missing:
    raise MachineError(
        "the report needs jinja2; install it with: pip install 'textmill[report]'"
    ) from missing

MOST_RULE_EXAMPLES = 3
LONGEST_EXAMPLE = 240
MOST_SAMPLES = 8
LONGEST_SAMPLE = 900
UNITS = {"char": "character", "word": "word"}  # a tokenizer's token; others are pieces of words
SAMPLE_HEAD = re.compile(r"^=+ SAMPLE \d+ =+\n", re.MULTILINE)
MARK_FROM = 24  # characters; shorter copied runs are words that everyone uses


@dataclass(frozen=True)
class ReportSettings(Settings):
    """How the report is made."""

    title: str = setting(
        "",
        "Heading of the report (empty: the model's name and preset; of the address of an item's corpus: its name).",
    )
    most_texts: int = setting(12, "Show at most this many texts.", minimum=0, maximum=50)
    longest_text: int = setting(
        6000, "Show at most this many characters of each text.", minimum=100, maximum=12000
    )


def report(
    dataset: Path,
    checkpoint: Path,
    texts: Path | None,
    html: Path,
    card: Path,
    settings: ReportSettings | None = None,
) -> dict[str, Any]:
    """Write the page `html` and the card `card`; return the figures, flat, ready for KFP's Metrics.

    `texts` may be None: a training run without a generating one. Raises FolderError for a folder that is none of ours.
    """
    settings = settings or ReportSettings()
    run = _Run(Path(dataset), Path(checkpoint), Path(texts) if texts else None, settings)
    view = run.view()
    write_bytes(Path(html), _render("report.html.j2", view))
    write_bytes(Path(card), _render("card.md.j2", view))
    return run.figures()


class _Run:
    """The three folders, read."""

    def __init__(self, dataset: Path, checkpoint: Path, texts: Path | None, settings: ReportSettings) -> None:
        from textmill.checkpoints.checkpoint import read_details, read_metrics

        self.settings, self.checkpoint = settings, checkpoint
        self.dataset_manifest = manifest.read(dataset, "dataset")
        self.checkpoint_manifest = manifest.read(checkpoint, "checkpoint")
        self.texts_manifest = manifest.read(texts, "texts") if texts else None
        self.data = _json(dataset / "report.json")
        self.model = read_details(checkpoint)
        self.metrics = read_metrics(checkpoint) if (checkpoint / "metrics.jsonl").exists() else []
        self.texts = _json_lines(texts / "texts.jsonl") if texts else []
        self.unit = UNITS.get(self.data.get("tokenizer", {}).get("name"), "token")

    # ------------------------------------------------------------------ figures

    def figures(self) -> dict[str, Any]:
        """The run in numbers: name -> int, float or text; what is not known is left out."""
        model, valid, test = self.model, self._unigram("valid"), self.model.get("test") or {}
        found = {
            "valid_loss": model.get("loss"),
            "valid_perplexity": _perplexity(model.get("loss")),
            "valid_accuracy": model.get("accuracy"),
            "unigram_valid_perplexity": valid.get("perplexity"),
            "test_loss": test.get("loss"),
            "test_perplexity": test.get("perplexity"),
            "step": model.get("step"),
            "tokens_seen": model.get("tokens_seen"),
            "tokens_per_second": self._speed(),
            "parameters": model.get("parameters"),
            "unknown_valid": self.data.get("tokenizer", {}).get("unknown", {}).get("valid"),
            **self._copied(),
        }
        return {k: v for k, v in found.items() if v is not None}

    def _copied(self) -> dict[str, Any]:
        each = [text.get("copied") or {} for text in self.texts]
        runs = [int(c["longest_run"]) for c in each if "longest_run" in c]
        shares = [float(c["share_8grams"]) for c in each if c.get("share_8grams") is not None]
        return {
            "texts": len(self.texts) or None,
            "longest_copied_run": max(runs, default=None),
            "share_copied_8grams": sum(shares) / len(shares) if shares else None,
        }

    def _unigram(self, split: str) -> dict[str, Any]:
        unigram = self.model.get("unigram") or self.data.get("unigram") or {}
        return dict(unigram.get(split) or {})

    def _speed(self) -> float | None:
        speeds = sorted(r["tokens_per_second"] for r in self.metrics if r.get("tokens_per_second"))
        return speeds[len(speeds) // 2] if speeds else None

    # ------------------------------------------------------------------ what the page shows

    def _title(self) -> str:
        title = self.settings.title
        return name_of(title) if "://" in title or title.startswith("/") else title

    def view(self) -> dict[str, Any]:
        model = self.model
        figures = self.figures()
        return {
            "title": self._title() or f"{model['model']}, {model.get('preset', 'own sizes')}",
            "version": __version__,
            "unit": self.unit,
            "verdict": self.verdict(),
            "tiles": self._tiles(figures),
            "loss_chart": self._loss_chart(960, 320),
            "loss_chart_narrow": self._loss_chart(380, 280),
            "accuracy_chart": self._curve("accuracy", "accuracy"),
            "speed_chart": self._speed_chart(),
            "texts": [self._text(text) for text in self.texts[: self.settings.most_texts]],
            "texts_left_out": max(0, len(self.texts) - self.settings.most_texts),
            "samples": self._samples(),
            "copied": self._copied(),
            "copied_chart": self._copied_bars(),
            "data": self.data,
            "splits": self._splits(),
            "rules": [_rule(rule) for rule in self.data.get("rules", [])],
            "tokenizer": self.data.get("tokenizer", {}),
            "duplicates": self.data.get("duplicates", {}),
            "settings": self._settings(),
            "lineage": self._lineage(),
            "versions": self.checkpoint_manifest.versions,
            "figures": figures,
        }

    def verdict(self) -> str:
        """One or two sentences: how good it is, beside what counting alone would get."""
        loss, unigram = self.model.get("loss"), self._unigram("valid").get("loss")
        seen = f"After {short(self.model.get('tokens_seen', 0))} {self.unit}s"
        if loss is None:
            return f"{seen}. There was no validation text, so there is no score: look at the texts."
        said = f"{seen} it predicts unseen text at {loss:.3f} nats a {self.unit} (perplexity {number(math.exp(loss))})."
        if unigram is None:
            return said
        versus = f"counting {self.unit}s alone gets {unigram:.3f} (perplexity {number(math.exp(unigram))})"
        if loss < unigram:
            return f"{said} For comparison, {versus}."
        return f"{said} That is no better than {versus}: train longer, or on more text."

    def _tiles(self, figures: Mapping[str, Any]) -> list[dict[str, str]]:
        tiles = []

        def tile(name: str, value: Any, note: str = "") -> None:
            if value is not None:
                tiles.append({"name": name, "value": str(value), "note": note})

        shown = {k: number(v) for k, v in figures.items() if isinstance(v, int | float)}
        unigram = shown.get("unigram_valid_perplexity")
        tile(
            "validation perplexity",
            shown.get("valid_perplexity"),
            f"{unigram} by counting alone" if unigram else "",
        )
        tile(
            "validation accuracy", _percent(figures.get("valid_accuracy")), f"next {self.unit} guessed right"
        )
        tile("test perplexity", shown.get("test_perplexity"))
        tile(
            f"{self.unit}s seen",
            short(figures.get("tokens_seen", 0)),
            f"best model at step {shown.get('step', '–')}",
        )
        tile("speed", shown.get("tokens_per_second"), f"{self.unit}s a second, median")
        if base := self.checkpoint_manifest.parents.get("base"):
            tile("started from", base[:12], "SHA-256 of the base model")
        tile(
            "longest copied run",
            shown.get("longest_copied_run"),
            "characters that stand so in the training text",
        )
        tile(
            "copied 8-grams", _percent(figures.get("share_copied_8grams")), "runs of 8 words that stand there"
        )
        return tiles

    def _records(self, kind: str) -> list[dict[str, Any]]:
        return [record for record in self.metrics if record.get("kind") == kind]

    def _points(self, kind: str, name: str) -> list[tuple[float, float]]:
        return [
            (float(r["tokens_seen"]), float(r[name])) for r in self._records(kind) if r.get(name) is not None
        ]

    def _loss_chart(self, width: int, height: int) -> str:
        unigram = self._unigram("valid").get("loss")
        levels = [Level(f"counting {self.unit}s alone", unigram)] if unigram is not None else []
        lines = [
            Line("training", self._points("train", "loss"), "train"),
            Line("validation", self._points("valid", "loss"), "valid", dots=True),
        ]
        return Chart(lines, f"{self.unit}s seen", f"loss, nats a {self.unit}", levels, width, height).svg()

    def _curve(self, name: str, label: str) -> str:
        lines = [
            Line("training", self._points("train", name), "train"),
            Line("validation", self._points("valid", name), "valid", dots=True),
        ]
        return Chart(lines, f"{self.unit}s seen", label, width=460, height=230).svg()

    def _speed_chart(self) -> str:
        points = self._points("train", "tokens_per_second")
        line = Line("speed", points, "speed")
        return Chart(
            [line], f"{self.unit}s seen", f"{self.unit}s a second", width=460, height=230, from_zero=True
        ).svg()

    def _text(self, text: Mapping[str, Any]) -> dict[str, Any]:
        whole = str(text.get("text") or text.get("completion") or "")
        shown = whole[: self.settings.longest_text]
        copied = text.get("copied") or {}
        run = str(copied.get("longest_run_text") or "")
        return {
            "blocks": typeset(shown, run if len(run) >= MARK_FROM else ""),
            "cut": len(whole) - len(shown),
            "prompt": str(text.get("prompt") or ""),
            "finish_reason": str(text.get("finish_reason") or "").replace("_", " "),
            "tokens": text.get("tokens"),
            "seed": text.get("seed"),
            "longest_run": copied.get("longest_run"),
            "longest_run_text": run,
            "document": str(copied.get("document") or ""),
            "share": _percent(copied.get("share_8grams")),
        }

    def _samples(self) -> list[dict[str, Any]]:
        """Samples written while training: the first, the last, and some between at growing distances."""
        files = sorted((self.checkpoint / "samples").glob("step-*.txt"))
        seen = {r["step"]: r["tokens_seen"] for r in self.metrics if "step" in r}
        losses = [(r["step"], r["loss"]) for r in self._records("valid")]
        train = self.model.get("train") or {}
        rows = int(train.get("batch_size", 0)) * int(train.get("accumulate_gradients", 1))
        per_step = rows * int(train.get("num_steps", 0))
        samples = []
        for file in _spread(files, MOST_SAMPLES):
            step = int(file.stem.removeprefix("step-"))
            text = SAMPLE_HEAD.sub("", file.read_text(encoding="utf-8", errors="replace"))
            samples.append(
                {
                    "step": step,
                    "seen": short(seen.get(step, step * per_step)),
                    "loss": next((f"{loss:.3f}" for at, loss in reversed(losses) if at <= step), ""),
                    "blocks": typeset(text[:LONGEST_SAMPLE].rstrip()),
                    "cut": len(text) > LONGEST_SAMPLE,
                }
            )
        return samples

    def _copied_bars(self) -> list[dict[str, Any]]:
        """Each text's share of copied 8-grams, for a row of bars."""
        return [
            {"index": index + 1, "share": float(c["share_8grams"]), "run": c.get("longest_run")}
            for index, text in enumerate(self.texts)
            if (c := text.get("copied") or {}).get("share_8grams") is not None
        ][:50]

    def _splits(self) -> list[dict[str, Any]]:
        unknown = self.data.get("tokenizer", {}).get("unknown", {})
        return [
            {
                "name": name,
                "documents": self.data.get("documents", {}).get(name),
                "characters": self.data.get("characters", {}).get(name),
                "tokens": self.data.get("tokens", {}).get(name),
                "unknown": _percent(unknown.get(name)),
                "unigram": self._unigram(name).get("perplexity"),
            }
            for name in ("train", "valid", "test")
            if self.data.get("documents", {}).get(name) is not None
        ]

    def _settings(self) -> list[tuple[str, list[tuple[str, Any]]]]:
        model = self.model
        groups = [
            (
                "Model",
                {k: model.get(k) for k in ("model", "preset", "parameters", "seed")}
                | (model.get("config") or {}),
            ),
            ("Training", model.get("train") or {}),
            ("Engine", model.get("engine") or {}),
            ("Dataset", self.dataset_manifest.settings),
            ("Texts", self.texts_manifest.settings if self.texts_manifest else {}),
        ]
        return [
            (name, [(k, _plain(v)) for k, v in values.items() if v is not None])
            for name, values in groups
            if values
        ]

    def _lineage(self) -> list[tuple[str, str]]:
        """From the sources to the texts: (folder, sha256)."""
        rows = list(self.dataset_manifest.parents.items())
        rows.append(("dataset", self.dataset_manifest.digest))
        if base := self.checkpoint_manifest.parents.get("base"):
            rows.append(("base model", base))
        if digest := self.dataset_manifest.details.get("tokenizer", {}).get("digest"):
            rows.append(("tokenizer", digest))
        rows.append(("checkpoint", self.checkpoint_manifest.digest))
        if self.texts_manifest:
            rows.append(("texts", self.texts_manifest.digest))
        return rows


# ---------------------------------------------------------------------- small helpers


def _rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    examples = [
        {
            "document": e.get("document", ""),
            "parts": difference(str(e.get("before", "")), str(e.get("after", ""))),
        }
        for e in rule.get("examples", [])[:MOST_RULE_EXAMPLES]
    ]
    return {
        "name": rule.get("name", ""),
        "documents": rule.get("documents_changed", 0),
        "changes": rule.get("changes", 0),
        "counts": rule.get("counts") or {},
        "examples": examples,
    }


def difference(before: str, after: str) -> list[tuple[str, str]]:
    """What changed, as ("same" | "del" | "ins", text) pieces; long texts are cut."""
    old, new = before[:LONGEST_EXAMPLE], after[:LONGEST_EXAMPLE]
    pieces: list[tuple[str, str]] = []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            pieces.append(("same", old[a:b]))
            continue
        if b > a:
            pieces.append(("del", _visible(old[a:b])))
        if d > c:
            pieces.append(("ins", _visible(new[c:d])))
    if max(len(before), len(after)) > LONGEST_EXAMPLE:
        pieces.append(("same", " …"))
    return pieces


def _visible(text: str) -> str:
    """White space that changed must be seen."""
    return text.replace("\t", "⇥").replace("\r", "␍").replace("\n", "↵\n").replace("\u00a0", "⍽")


def _spread(items: list[Path], most: int) -> list[Path]:
    """At most `most` of the items: first, last, and between them at growing distances."""
    if len(items) <= most:
        return items
    last = len(items) - 1
    places = {round(math.expm1(i / (most - 1) * math.log1p(last))) for i in range(most)}
    return [items[i] for i in sorted(places | {last})]


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, sort_keys=True) if value else "–"
    return str(value) if value != "" else "–"


def _percent(share: Any) -> str | None:
    return None if share is None else f"{share:.2%}" if 0 < share < 0.01 else f"{share:.1%}"


def _perplexity(loss: float | None) -> float | None:
    return None if loss is None or loss > 700 else math.exp(loss)


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise FolderError(f"cannot read {path}; make its folder anew.") from error
    if not isinstance(value, dict):
        raise FolderError(f"{path} does not hold what this textmill wants; make its folder anew.")
    return value


def _json_lines(path: Path) -> list[dict[str, Any]]:
    try:
        with open(path, encoding="utf-8") as file:
            return [json.loads(line) for line in file if line.strip()]
    except (OSError, ValueError) as error:
        raise FolderError(f"cannot read {path}; make its folder anew.") from error


def _render(template: str, view: Mapping[str, Any]) -> bytes:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=template.endswith(".html.j2"),
        undefined=ChainableUndefined,  # a folder of an older textmill may lack a fact
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": _number, "one_line": one_line, "markdown": markdown}
    return environment.get_template(template).render(view).encode()


def _number(value: Any) -> str:
    return number(value) if isinstance(value, int | float) else "–"


def one_line(blocks: Iterable[Block], longest: int = 300) -> str:
    """The beginning of a text as plain words on one line, safe inside Markdown."""
    words = " ".join(
        Markup(part).striptags() for block in blocks for part in (block.name, *block.lines) if part
    )
    return markdown(words[:longest])


def markdown(text: str) -> str:
    """`text` on one line, with every character escaped that Markdown or HTML would take for its own."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join("\\" + c if c in "\\`*_{}[]#|!~" else c for c in " ".join(text.split()))


__all__ = ["ReportSettings", "report"]
