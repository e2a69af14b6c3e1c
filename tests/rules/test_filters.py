"""Rules that drop documents: language, min_length, max_length; and how rules are written with parameters."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest

from tests.contracts.rule_contract import RuleContract
from textmill import manifest
from textmill.corpora.corpus import Document, ShardWriter
from textmill.errors import SettingsError
from textmill.normalize import NormalizeSettings, normalize
from textmill.rules import RULES, Rule, find_rules, split_names

ENGLISH = "The miller rose before the sun and let the water onto the wheel, as he had done for thirty years."
GERMAN = "Der Müller stand vor der Sonne auf und ließ das Wasser auf das Rad, wie seit dreißig Jahren."
FRENCH = "Le meunier se levait avant le soleil et lâchait l'eau sur la roue, comme depuis trente ans."


class FilterContract(RuleContract):
    changed: ClassVar[list[tuple[str, str]]] = []
    kept: ClassVar[list[str]]
    dropped: ClassVar[list[tuple[str, str, str]]]  # rule as written, text, reason

    def test_what_is_kept_and_dropped_is_not_changed(self) -> None:
        for text in self.kept:
            assert (self.rule.apply(text).drop, self.rule.apply(text).text) == ("", text)
        for written, text, reason in self.dropped:
            (rule,) = find_rules(written)
            outcome = rule.apply(text)
            assert (outcome.drop, outcome.text, outcome.changes) == (reason, text, 0)
            assert outcome.detail


class TestLanguage(FilterContract):
    rule = RULES["language"]
    kept = [ENGLISH, ENGLISH * 200, "Ja.", "🥖🥖🥖 123", ""]  # noqa: RUF012
    dropped = [  # noqa: RUF012
        ("language", GERMAN, "in another language"),
        ("language(de fr)", ENGLISH, "in another language"),
        ("language(en, minimum=0.2)", GERMAN * 300, "in another language"),
    ]

    def test_several_languages_are_written_with_spaces(self) -> None:
        (rule,) = find_rules("language(de fr)")
        assert [rule.apply(text).drop for text in (GERMAN, FRENCH)] == ["", ""]
        assert "en, probability" in rule.apply(ENGLISH).detail

    def test_links_and_names_are_of_no_language(self) -> None:
        assert (
            not RULES["language"]
            .apply(f"@müllerstraße #guten_morgen https://über.de/der/die/das {ENGLISH}")
            .drop
        )

    def test_a_language_that_is_not_known_is_one_line(self) -> None:
        with pytest.raises(
            SettingsError, match=r"unknown language 'eng' in rule language\. Did you mean 'en'"
        ):
            find_rules("language(eng)")


class TestMinLength(FilterContract):
    rule = RULES["min_length"]
    kept = ["", "  ", "x" * 20, "ü" * 20 + " "]  # noqa: RUF012
    dropped = [("min_length", "  short ", "too short"), ("min_length(30)", "x" * 29, "too short")]  # noqa: RUF012


class TestMaxLength(FilterContract):
    rule = RULES["max_length"]
    kept = ["", "x" * 1000]  # noqa: RUF012
    dropped = [("max_length(characters=10)", "x" * 11, "too long")]  # noqa: RUF012


def test_rules_are_parted_by_commas_outside_parentheses() -> None:
    assert split_names(" a, b(1, c=2) ,, d ") == ["a", "b(1, c=2)", "d"]


def test_a_rule_with_parameters_is_shown_with_them() -> None:
    names = [rule.name for rule in find_rules("whitespace, min_length(30), language( en de , minimum = 0.8)")]
    assert names == ["whitespace", "min_length(characters=30)", "language(languages=en de, minimum=0.8)"]


@pytest.mark.parametrize(
    ("written", "line"),
    [
        ("min_length(thirty)", "setting 'characters' (rule min_length) is 'thirty', which is not of type int."),
        ("min_length(0)", "setting 'characters' (rule min_length) is 0; it must be at least 1."),
        ("min_length(least=3)", "unknown setting 'least' in rule min_length. Known: characters."),
        ("min_length(3, characters=4)", "rule 'min_length' is given 'characters' twice."),
        ("min_length()", "rule 'min_length' has an empty parameter in ()."),
        ("language(en, de)", "rule 'language': only the first parameter goes without a name; 'de' is none of "
         "languages=…, minimum=…."),
        ("language( )", "rule 'language' has an empty parameter in ( )."),
        ("whitespace(1)", "rule 'whitespace' has no parameters; write it without parentheses."),
        ("min_length(3", "rule 'min_length(3' is not of the form name or name(value, name=value)."),
        ("min_length(3), min_length(4)", "rule 'min_length' is named twice; name each rule once."),
    ],
)  # fmt: skip
def test_what_is_written_wrong_is_one_clear_line(written: str, line: str) -> None:
    with pytest.raises(SettingsError) as caught:
        find_rules(written)
    assert str(caught.value) == line


def test_every_parameter_has_a_default_and_a_help_line() -> None:
    def parameters(rule: Rule) -> list[str]:
        return list(rule.parameters.kinds()) if rule.parameters else []

    for rule in RULES.values():
        for name in parameters(rule):
            assert rule.parameters.__dataclass_fields__[name].metadata["help"].endswith("."), (
                rule.name,
                name,
            )  # type: ignore[union-attr]


def test_the_version_of_what_guesses_the_language_is_kept(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "corpus") as writer:
        for i in range(4):
            writer.add(Document(f"{i}.txt", f"{ENGLISH} And {i} more."))
    items = [{"item": "all", "shard": writer.shard.name, "documents": 4, "characters": 0, "fingerprint": ""}]
    manifest.write(tmp_path / "corpus", "corpus", details={"items": items, "skipped": []})
    normalize(
        tmp_path / "corpus", tmp_path / "dataset", NormalizeSettings.of(rules="language", near_duplicates=0)
    )
    assert "py3langid" in manifest.read(tmp_path / "dataset", "dataset").versions
