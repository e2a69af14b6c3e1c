"""Settings: names, types, ranges and where a value comes from."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from textmill.errors import SettingsError
from textmill.settings import Settings, setting


@dataclass(frozen=True)
class Mill(Settings):
    wheel: str = setting("overshot", "Kind of wheel.", choices=("overshot", "undershot"))
    stones: int = setting(2, "Pairs of stones.", minimum=1, maximum=8)
    speed: float = setting(1.5, "Turns a second.", minimum=0)
    open: bool = setting(True, "Whether it grinds.")
    grains: list[str] = setting([], "What it grinds.")
    extra: dict[str, Any] = setting({}, "Anything else.")


def test_whole_floats_become_ints_as_kfp_hands_over_every_number_as_float() -> None:
    assert Mill.of(stones=3.0).stones == 3
    assert isinstance(Mill.of(stones=3.0).stones, int)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stone": 3}, "unknown setting 'stone'. Did you mean 'stones'? Known: wheel, stones"),
        ({"stones": 2.5}, "setting 'stones' is 2.5, which is not of type int."),
        ({"stones": True}, "setting 'stones' is True, which is not of type int."),
        ({"stones": 9}, "setting 'stones' is 9; it must be at most 8."),
        ({"stones": 0}, "setting 'stones' is 0; it must be at least 1."),
        ({"speed": float("nan")}, "setting 'speed' is not a number."),
        ({"speed": "fast"}, "setting 'speed' is 'fast', which is not of type float."),
        ({"wheel": "breast"}, "setting 'wheel' is 'breast'; choose one of: overshot, undershot."),
        ({"open": "perhaps"}, "setting 'open' is 'perhaps', which is not of type bool."),
        ({"grains": {"rye": 1}}, "setting 'grains' is {'rye': 1}, which is not of type list."),
        ({"grains": 7}, "setting 'grains' is 7, which is not of type list."),
        ({"extra": 3}, "setting 'extra' is 3, which is not of type dict."),
    ],
)
def test_a_wrong_setting_is_one_clear_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Mill.from_dict(values)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_argument_wins_over_environment_over_file_over_default(tmp_path: Path) -> None:
    file = tmp_path / "mill.yaml"
    file.write_text("mill: {stones: 3, speed: 2e-1, open: no}\n")
    environ = {"TEXTMILL_MILL_SPEED": "0.5", "TEXTMILL_MILL_STONES": "4"}
    made = Mill.resolve({"stones": 5}, file=file, section="mill", environ=environ)
    assert (made.stones, made.speed, made.open, made.wheel) == (5, 0.5, False, "overshot")


def test_text_is_parsed_for_other_types() -> None:
    assert Mill.of(stones="4", speed="1e-3", open="no", grains="[rye, oats]").as_dict() == {
        "wheel": "overshot",
        "stones": 4,
        "speed": 0.001,
        "open": False,
        "grains": ["rye", "oats"],
        "extra": {},
    }


@pytest.mark.parametrize("entry", ["rye", "https://rye.example/a?b=c", "7"])
def test_one_entry_of_a_list_stands_alone(entry: str) -> None:
    assert Mill.of(grains=entry).grains == [entry]


def test_errors_name_the_file_they_come_from(tmp_path: Path) -> None:
    file = tmp_path / "mill.yaml"
    file.write_text("stones: many\n")
    with pytest.raises(SettingsError, match=r"mill\.yaml"):
        Mill.resolve({}, file=file, environ={})
    file.write_text("{")
    with pytest.raises(SettingsError, match="not valid YAML"):
        Mill.resolve({}, file=file, environ={})


def test_defaults_of_lists_are_not_shared() -> None:
    Mill().grains.append("rye")
    assert Mill().grains == []


def test_replace_is_checked() -> None:
    with pytest.raises(SettingsError):
        Mill().replace(stones=0)
    assert Mill().replace(stones=4).changed() == {"stones": 4}


@pytest.mark.parametrize("given", ["{", "[1, 2", "a: b: c", "\t"])
def test_a_value_that_is_no_yaml_is_one_line_too(given: str) -> None:
    with pytest.raises(
        SettingsError, match=r"^setting 'stones' \(environment variable TEXTMILL_MILL_STONES\) is"
    ):
        Mill.resolve({}, section="mill", environ={"TEXTMILL_MILL_STONES": given})


def test_a_few_lines_that_stand_for_gigabytes_are_one_short_line(tmp_path: Path) -> None:
    names = "abcdefghij"
    lists = [f"&{name} [{', '.join(['*' + before] * 9)}]" for before, name in itertools.pairwise(names)]
    file = tmp_path / "mill.yaml"
    file.write_text(f"grains: [&a [x, x], {', '.join(lists)}]\nspeed: *{names[-1]}\n")
    with pytest.raises(SettingsError, match=r"^setting .speed.") as error:
        Mill.resolve({}, file=file)
    assert len(str(error.value)) < 5_000
    file.write_text("[" * 5_000)
    with pytest.raises(SettingsError, match="is not valid YAML"):
        Mill.resolve({}, file=file)
