"""What many tests share: a tiny real play, and corpus and dataset folders made of it by the real stages."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

SCENES = {
    "1-the-mill.txt": (
        "\tACT I\n\nSCENE I\tA mill by a river. Night.\n\n\t[Enter MOLL and TOBY, with a lamp]\n\n"
        "MOLL\tIs the wheel turning, Toby? I can't hear it.\n\tThe river is low and the night is long.\n\n"
        "TOBY\tIt turns when the moon tells it to turn.\n\n\t[The wheel groans]\n\n"
        "MOLL\tThen the moon is a poor miller!\n\nTOBY\tShe pays no rent, and she takes no bread.\n\n\t[Exeunt]\n"
    ),
    "2-the-road.txt": (
        "SCENE II\tThe road to the town.\n\n\t[Enter TOBY, running]\n\n"
        "TOBY\tA letter, a letter! The wind had it first,\n\tand then the ditch, and then the dog, and now me.\n\n"
        "\t[Enter a Pedlar]\n\nPEDLAR\tWhat does it say, that so many have read it?\n\n"
        "TOBY\tIt says the same to everyone: come home.\n\nPEDLAR\tThen it is mine. I never get another.\n\n\t[Exit]\n"
    ),
    "3-the-door.txt": (
        "SCENE III\tAt the mill's door.\n\n\t[Enter MOLL]\n\nMOLL\tWho knocks so softly? Is it rain or rent?\n\n"
        "PEDLAR\tNeither. I have a letter with no name,\n\tand all the names I had are worn away.\n\n"
        "MOLL\tCome in, come in. We'll grind you a new one.\n\n\t[They go in, and the wheel begins to turn]\n"
    ),
    "4-the-stone.txt": (
        "SCENE IV\tThe stone floor of the mill.\n\n\t[Enter TOBY and PEDLAR]\n\n"
        "TOBY\tThis stone has eaten forty fields of wheat.\n\nPEDLAR\tAnd never once grown fat? I like this stone.\n\n"
        "TOBY\tIt gives back all it takes, and something more.\n\n\t[A bell without]\n\n"
        "PEDLAR\tThat is the bell for supper, or for sleep.\n"
    ),
}


def pytest_configure(config: pytest.Config) -> None:
    for name in [k for k in os.environ if k.startswith("TEXTMILL_") and k != "TEXTMILL_DATA"]:
        del os.environ[name]


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a play of four short scenes in the Shakespeare layout."""
    folder = tmp_path_factory.mktemp("scenes")
    for name, text in SCENES.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def corpus(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from textmill.ingest import ingest

    folder = tmp_path_factory.mktemp("corpora") / "corpus"
    ingest(str(scenes), folder)
    return folder


@pytest.fixture(scope="session")
def char_dataset(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Characters: one scene to validate, one to test."""
    from textmill.normalize import NormalizeSettings, normalize

    folder = tmp_path_factory.mktemp("datasets") / "char"
    settings = NormalizeSettings.of(split="documents", valid_documents="3-*", test_documents="4-*")
    normalize(corpus, folder, settings)
    return folder


@pytest.fixture(scope="session")
def word_dataset(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Words in script markup: one scene to validate, one to test."""
    from textmill.normalize import NormalizeSettings, normalize

    folder = tmp_path_factory.mktemp("datasets") / "word"
    settings = NormalizeSettings.of(
        rules="unicode_repair,script_markup",
        tokenizer="word",
        minimum_count=1,
        split="documents",
        valid_documents="3-*",
        test_documents="4-*",
    )
    normalize(corpus, folder, settings)
    return folder


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEXTMILL_STATE_ROOT", raising=False)
