"""The table of stores, and what they share."""

from __future__ import annotations

from pathlib import Path

import pytest

from textmill import stores
from textmill.errors import InputError, MachineError
from textmill.stores import Found, Store, StoreError, download, open_store, without_credentials


def test_an_unknown_scheme_lists_the_known_ones() -> None:
    with pytest.raises(
        InputError, match=r"unknown kind of store 's4://'. Did you mean 's3://'\? Known: .*gs://"
    ):
        open_store("s4://bucket/x")
    with pytest.raises(InputError, match="no store is given"):
        open_store(" ")


@pytest.mark.parametrize(
    ("scheme", "package", "extra"), [("s3", "boto3", "s3"), ("gs", "google.cloud.storage", "gcs")]
)
def test_a_package_that_is_missing_is_named_with_the_way_to_get_it(
    scheme: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MachineError) as caught:
        open_store(f"{scheme}://user:canary@bucket/texts?key=canary")
    assert str(caught.value) == (
        f"{scheme}://bucket/texts needs the package {package}: pip install 'textmill[{extra}]'."
    )


def test_credentials_do_not_stand_in_what_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-secret")
    monkeypatch.setenv("accesskey", "canary-kfp")
    said = "no answer\nfrom http://me:canary-password@host/ for canary-kfp, canary-secret"
    assert without_credentials(said) == "no answer from http://host/ for ***, ***"


class Breaking(Store):
    """Its first `breaks` reads stop in the middle."""

    label = "breaking://"

    def __init__(self, data: bytes, breaks: int) -> None:
        self.data, self.breaks = data, breaks

    def read(self, name: str) -> Found:
        self.breaks -= 1
        return Found(len(self.data), "1", iter([self.data[:3]] if self.breaks >= 0 else [self.data]))


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores.time, "sleep", lambda seconds: None)


Breaking.__abstractmethods__ = frozenset()


def test_a_download_that_breaks_off_is_begun_again(tmp_path: Path, no_waiting: None) -> None:
    download(Breaking(b"whole file", 2), "a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"whole file"


def test_a_download_that_never_gets_through_leaves_nothing(tmp_path: Path, no_waiting: None) -> None:
    with pytest.raises(StoreError, match="broke off at 3 of 10 bytes"):
        download(Breaking(b"whole file", 99), "a", tmp_path / "a")
    assert not list(tmp_path.iterdir())
