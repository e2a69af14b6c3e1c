"""The report: what it says, that it is one file, and that nothing in the folders can break out of it."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from textmill import manifest
from textmill.charts import Chart, Level, Line, number, short, ticks
from textmill.errors import FolderError
from textmill.files import write_bytes, write_json
from textmill.report import ReportSettings, difference, report
from textmill.writing.typesetting import typeset

PLAY = (
    "SCENE II\tThe road to the town.\n\n\t[Enter TOBY, running]\n\n"
    "TOBY\tA letter, a letter! The wind had it first,\n\tand then the ditch, and then the dog, and now me.\n\n"
    "PEDLAR\tWhat does it say, that so many have read it?\n"
)
EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&"


def make_folders(
    root: Path, *, evil: str = "", loss: float = 1.5, texts: int = 3, records: int = 40
) -> dict[str, Path]:
    """Dataset, checkpoint and texts folders as the stages write them, with a made-up run in them."""
    dataset, checkpoint, written = root / "dataset", root / "checkpoint", root / "texts"
    write_json(
        dataset / "report.json",
        {
            "documents": {"read": 7, "kept": 6, "train": 4, "valid": 1, "test": 1},
            "characters": {"train": 61234, "valid": 10321, "test": 9555},
            "tokens": {"train": 61234, "valid": 10321, "test": 9555},
            "rules": [
                {
                    "name": "unicode_repair" + evil,
                    "documents_changed": 2,
                    "changes": 17,
                    "counts": {"quotes" + evil: 17},
                    "examples": [
                        {
                            "document": "1-1" + evil,
                            "before": "canâ€™t wait" + evil,
                            "after": "can't wait" + evil,
                        }
                    ],
                }
            ],
            "dropped_counts": {"too_short": 1},
            "dropped": [{"document": "note.txt" + evil, "reason": "too_short", "detail": "12 characters"}],
            "duplicates": {
                "exact": 1,
                "near": 0,
                "examples": [{"document": "b", "of": "a" + evil, "similarity": 1.0}],
            },
            "split": {"method": "documents", "valid": ["2-2-market-day.txt" + evil], "test": []},
            "tokenizer": {
                "name": "char",
                "size": 98,
                "unknown": {"train": 0.0, "valid": 0.00021, "test": 0.0},
                "most_unknown": [["é" + evil, 3]],
            },
            "vocabulary_from": "train",
            "unigram": {
                "valid": {"loss": 3.1, "perplexity": 22.2},
                "test": {"loss": 3.1, "perplexity": 22.3},
            },
        },
    )
    manifest.write(
        dataset,
        "dataset",
        settings={"tokenizer": "char", "rules": "unicode_repair"},
        parents={"corpus": "cd" * 32},
        details={"tokenizer": {"name": "char", "size": 98, "digest": "ab" * 32}},
    )

    write_json(
        checkpoint / "config.json",
        {
            "model": "char-gru",
            "preset": "small" + evil,
            "config": {"cell": "gru", "num_layers": 1, "hidden_size": 256},
            "train": {"batch_size": 20, "num_steps": 30, "learning_rate": 0.002},
            "seed": 0,
            "render": "",
            "engine": {"backend": "tensorflow", "precision": "bfloat16", "threads": 2},
            "parameters": 348_770,
        },
    )
    write_bytes(checkpoint / "weights-00000400.safetensors", b"weights")
    lines = []
    for i in range(1, records + 1):
        step = 10 * i
        fall = loss + (3.3 - loss) * math.exp(-i / records * 5)
        train = {
            "kind": "train",
            "step": step,
            "tokens_seen": step * 600,
            "loss": fall - 0.1,
            "accuracy": 0.6 - fall / 10,
        }
        lines.append({**train, "tokens_per_second": 9000 + 300 * math.sin(i), "learning_rate": 0.002})
        if i % 5 == 0:
            lines.append(
                {
                    "kind": "valid",
                    "step": step,
                    "tokens_seen": step * 600,
                    "loss": fall,
                    "accuracy": 0.58 - fall / 10,
                }
            )
            write_bytes(checkpoint / "samples" / f"step-{step:08d}.txt", (PLAY + evil).encode())
    write_bytes(checkpoint / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines).encode())
    manifest.write(
        checkpoint,
        "checkpoint",
        parents={"dataset": "ef" * 32},
        details={
            "weights": "weights-00000400.safetensors",
            "step": 400,
            "loss": loss,
            "accuracy": 0.55,
            "tokens_seen": 240_000,
            "unigram": {
                "valid": {"loss": 3.1, "perplexity": 22.2},
                "test": {"loss": 3.1, "perplexity": 22.3},
            },
            "test": {"loss": 1.6, "accuracy": 0.53, "perplexity": 4.95},
        },
    )

    rows = [
        {
            "index": index,
            "prompt": "SCENE II" + evil,
            "completion": PLAY + evil,
            "text": PLAY * 3 + evil,
            "finish_reason": "length",
            "tokens": 1000,
            "characters": 1000,
            "seed": index,
            "scores": {"mean_log_probability": -1.2},
            "copied": {
                "longest_run": 31 + index,
                "longest_run_text": "The wind had it first,\n\tand then",
                "document": "1-3" + evil,
                "share_8grams": 0.07,
            },
        }
        for index in range(texts)
    ]
    write_bytes(written / "texts.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    manifest.write(written, "texts", parents={"checkpoint": "01" * 32})
    return {"dataset": dataset, "checkpoint": checkpoint, "texts": written}


def make_report(folders: dict[str, Path], root: Path, **settings: Any) -> tuple[dict[str, Any], str, str]:
    html, card = root / "report.html", root / "card.md"
    figures = report(
        folders["dataset"],
        folders["checkpoint"],
        folders.get("texts"),
        html,
        card,
        ReportSettings.of(**settings),
    )
    return figures, html.read_text(encoding="utf-8"), card.read_text(encoding="utf-8")


class Page(HTMLParser):
    """The page's tags (with attributes) and visible text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes nothing that is open"

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.words.append(data)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str, str]:
    root = tmp_path_factory.mktemp("report")
    return make_report(make_folders(root), root)


def test_figures_are_flat_and_right(made: tuple[dict[str, Any], str, str]) -> None:
    figures = made[0]
    assert figures["valid_loss"] == 1.5
    assert figures["valid_perplexity"] == pytest.approx(4.4817, abs=1e-4)
    assert figures["unigram_valid_perplexity"] == 22.2
    assert figures["test_perplexity"] == 4.95
    assert figures["longest_copied_run"] == 33
    assert figures["share_copied_8grams"] == pytest.approx(0.07)
    assert figures["texts"] == 3
    assert all(isinstance(value, int | float | str) for value in figures.values())


def test_page_is_well_formed_and_says_the_main_things(made: tuple[dict[str, Any], str, str]) -> None:
    page = Page(made[1])
    assert page.open == []
    for said in (
        "char-gru, small",
        "it predicts unseen text at 1.500 nats a character (perplexity 4.48)",
        "counting characters alone gets 3.100 (perplexity 22.2)",
        "2 more texts",
        "longest copied run 31 characters",
        "17 changes in 2 documents",
        "Split by documents; validation: 2-2-market-day.txt.",
        "348,770",
    ):
        assert said in page.text, said


def test_page_needs_no_network_and_is_small(made: tuple[dict[str, Any], str, str]) -> None:
    html = made[1]
    assert len(html) < 1_000_000
    assert set(re.findall(r"https?://[^\"'\s<]+", html)) <= {
        "http://www.w3.org/2000/svg"
    }  # a namespace, not an address
    page = Page(html)
    assert not [attrs for _, attrs in page.tags if "src" in attrs]
    assert all((attrs.get("href") or "#").startswith("#") for _, attrs in page.tags)
    assert "@import" not in html
    assert "url(" not in html


def test_a_very_long_run_still_makes_a_small_page(tmp_path: Path) -> None:
    folders = make_folders(tmp_path, texts=200, records=4000)
    _, html, _ = make_report(folders, tmp_path, most_texts=50)
    assert len(html) < 1_000_000
    assert "150 more texts are in the texts folder" in html


def test_nothing_in_the_folders_becomes_markup(tmp_path: Path) -> None:
    _, clean, _ = make_report(make_folders(tmp_path / "clean"), tmp_path / "clean", title="x")
    _, evil, card = make_report(make_folders(tmp_path / "evil", evil=EVIL), tmp_path / "evil", title=EVIL)
    count = lambda html, tag: sum(t == tag for t, _ in Page(html).tags)  # noqa: E731
    assert count(evil, "script") == count(clean, "script") == 1
    assert count(evil, "img") == 0
    assert "alert(1)" in Page(evil).text
    assert "<script" not in card
    assert "<img" not in card


def test_worse_than_counting_is_said(tmp_path: Path) -> None:
    folders = make_folders(tmp_path, loss=3.2)
    _, html, card = make_report(folders, tmp_path)
    assert "no better than counting characters alone" in Page(html).text
    assert "no better than" in card


def test_without_texts_and_without_metrics(tmp_path: Path) -> None:
    folders = make_folders(tmp_path)
    del folders["texts"]
    (folders["checkpoint"] / "metrics.jsonl").unlink()
    write_json(
        folders["checkpoint"] / "manifest.json",
        _without(folders["checkpoint"] / "manifest.json", "metrics.jsonl"),
    )
    figures, html, _ = make_report(folders, tmp_path)
    page = Page(html)
    assert "texts" not in figures
    assert "The run was too short to leave a curve" in page.text
    assert "The texts" not in page.text


def _without(path: Path, name: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_bytes())
    del value["files"][name]
    value["digest"] = manifest.Manifest("checkpoint", value["files"]).digest
    return value


def test_another_folder_is_refused_in_one_line(tmp_path: Path) -> None:
    folders = make_folders(tmp_path)
    with pytest.raises(FolderError, match="holds a dataset; a checkpoint is wanted here"):
        make_report({**folders, "checkpoint": folders["dataset"]}, tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_card_is_short_and_has_the_figures(made: tuple[dict[str, Any], str, str]) -> None:
    card = made[2]
    assert len(card) < 2500
    assert card.startswith("### char-gru, small\n")
    assert "| validation perplexity | 4.48 | 22.2 by counting alone |" in card


# ---------------------------------------------------------------------- typesetting


def test_shakespeare_layout_is_set_as_a_script() -> None:
    blocks = typeset(PLAY)
    assert [b.kind for b in blocks] == ["heading", "direction", "speech", "speech"]
    assert blocks[2].name == "TOBY"
    assert blocks[2].lines[1] == "and then the ditch, and then the dog, and now me."


def test_television_layout_is_set_as_a_script() -> None:
    blocks = typeset("[ JON_SNOW ]:  you know nothing . .\n{{ he leaves the hall }} .\n[ ARYA ]:  no ! .\n")
    assert [b.kind for b in blocks] == ["speech", "direction", "speech"]
    assert (blocks[0].name, blocks[0].lines) == ("JON SNOW", ["you know nothing . ."])
    assert blocks[1].lines == ["he leaves the hall"]


def test_lines_before_the_first_speech_stay_together() -> None:
    blocks = typeset("and so it ends.\n\tQuite.\n\nTOBY\tA letter!\n\nMOLL\tNo.\n")
    assert [(b.kind, b.lines) for b in blocks[:2]] == [
        ("plain", ["and so it ends.", "Quite."]),
        ("speech", ["A letter!"]),
    ]


def test_prose_stays_as_it_is() -> None:
    blocks = typeset("One line.\nAnother: with a colon.\n\nA new paragraph.")
    assert [(b.kind, b.lines) for b in blocks] == [
        ("plain", ["One line.", "Another: with a colon."]),
        ("plain", ["A new paragraph."]),
    ]


@pytest.mark.parametrize("text", [PLAY, "a <b> c\nd", "\ue000x\ue001", "", "TOBY\t<i>\nMOLL\t<u>\n"])
def test_typeset_escapes_everything(text: str) -> None:
    made = "".join(part for b in typeset(text, "<b> c\nd") for part in (b.name, *b.lines))
    assert not re.search(r"<(?!/?mark>)", made)


def test_a_copied_run_is_marked_line_by_line() -> None:
    blocks = typeset(PLAY, "had it first,\n\tand then the ditch")
    assert blocks[2].lines == [
        "A letter, a letter! The wind <mark>had it first,</mark>",
        "<mark>and then the ditch</mark>, and then the dog, and now me.",
    ]


# ---------------------------------------------------------------------- charts and small helpers


def test_ticks_are_round_and_cover_the_range() -> None:
    assert ticks(0, 10, 5) == [0, 2.5, 5, 7.5, 10]
    assert ticks(1.43, 3.3, 5) == pytest.approx([1.0, 1.5, 2.0, 2.5, 3.0, 3.5])
    assert len(ticks(5, 5, 5)) >= 2


@pytest.mark.parametrize(
    ("value", "said"),
    [(1.5, "1.5"), (22.2, "22.2"), (409.04, "409.0"), (8526.8, "8,527"), (240_000, "240,000")],
)
def test_numbers_read_well(value: float, said: str) -> None:
    assert number(value) == said


def test_counts_are_shortened() -> None:
    assert [short(v) for v in (0, 999, 240_000, 35_500_000)] == ["0", "999", "240 k", "35.5 M"]


def test_chart_leaves_out_what_cannot_be_drawn() -> None:
    line = Line("training", [(1, math.nan), (2, math.inf), (3, 1.0), (4, 2.0)], "train")
    svg = Chart([line], "steps", "loss <nats>", [Level("baseline", 3.0)]).svg()
    assert "nan" not in svg
    assert "inf" not in svg
    assert "loss &lt;nats&gt;" in svg
    assert Chart([Line("training", [(1, math.nan)], "train")], "steps", "loss").svg() == ""


def test_difference_shows_white_space() -> None:
    assert difference("a\tb", "a b") == [("same", "a"), ("del", "⇥"), ("ins", " "), ("same", "b")]


def test_a_fine_tuned_gpt_2_is_shown_in_tokens_with_its_base(tmp_path: Path) -> None:
    folders = make_folders(tmp_path)
    data = json.loads((folders["dataset"] / "report.json").read_bytes())
    data["tokenizer"]["name"] = "bpe"
    write_json(folders["dataset"] / "report.json", data)
    manifest.write(folders["dataset"], "dataset", details={"tokenizer": {"name": "bpe"}})
    found = manifest.read(folders["checkpoint"], "checkpoint")
    for sample in (folders["checkpoint"] / "samples").iterdir():
        write_bytes(
            sample, b"======== SAMPLE 1 ========\nThe mill.\n\n======== SAMPLE 2 ========\nThe door.\n"
        )
    parents = {**found.parents, "base": "ba5e" * 16}
    manifest.write(folders["checkpoint"], "checkpoint", parents=parents, details=found.details)
    text = Page(make_report(folders, tmp_path)[1]).text
    assert "nats a token" in text
    assert "counting tokens alone" in text
    assert "base model " + "ba5e" * 16 in text
    assert "started from ba5eba5eba5e" in text
    assert "SAMPLE" not in text
    assert "The mill. The door." in text
