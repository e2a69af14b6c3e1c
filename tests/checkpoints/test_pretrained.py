"""Pulling a model from servers that cut, lie, refuse and change; what comes is whole, and nothing is fetched twice."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from tests.sources.fakes import Fake, FakeS3, serving
from textmill import manifest
from textmill.checkpoints import huggingface, pretrained
from textmill.checkpoints.openai_checkpoint import read_model, write_model
from textmill.checkpoints.pretrained import PullSettings, describe, pull
from textmill.errors import FolderError, InputError, MachineError
from textmill.files import sha256_of
from textmill.models.gpt2 import GPT2Config, init
from textmill.stores import resumable
from textmill.tokenizers.bpe import BPETokenizer

DATA = "model.ckpt.data-00000-of-00001"
SEVEN = {
    "checkpoint",
    "encoder.json",
    "hparams.json",
    "vocab.bpe",
    DATA,
    "model.ckpt.index",
    "model.ckpt.meta",
}
CONFIG = GPT2Config.of(vocabulary_size=257, context=64, width=32, num_heads=2, num_layers=2)


class Awkward(Fake):
    """A static server that misbehaves as told: `tricks` {file name: [what to do with each request, the rest is well]}.

    "cut N": end the connection after N bytes; "lie N": say the file has N bytes and send as many; "500", "429", "403":
    answer so; "whole": ignore the range; "changed": another version from now on; "stall": send half and then nothing.
    """

    def answer(self, path: str, query: dict[str, str]) -> None:
        name = path.rpartition("/")[2]
        data = self.server.files.get(path)
        tricks = self.server.tricks.get(name, [])
        trick, _, amount = (tricks.pop(0) if tricks else "").partition(" ")
        self.server.ranges.append((name, self.headers.get("Range", "")))
        if data is None:
            self.send(404, b"")
        elif trick.isdigit():
            self.send(int(trick), b"", **({"Retry_After": "0"} if trick == "429" else {}))
        else:
            if trick == "changed":
                data = self.server.files[path] = bytes(reversed(data))
            self.send_part(data, trick, int(amount or 0))

    def send_part(self, data: bytes, trick: str, amount: int) -> None:
        tag, whole, first = f'"{hash(data)}"', len(data), 0
        wanted = self.headers.get("Range")
        if wanted and trick != "whole" and self.headers.get("If-Range") == tag:
            first = int(wanted.removeprefix("bytes=").partition("-")[0])
        if first >= whole > 0:
            self.send(416, b"", Content_Range=f"bytes */{whole}")
            return
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{whole - 1}/{whole}")
        body = data[first:]
        if trick == "lie":
            body = (body + bytes(amount))[:amount]
        self.send_header("Content-Length", str(len(body)))
        if self.server.tagged:
            self.send_header("ETag", tag)
        self.end_headers()
        self.server.sent += len(body[:amount] if trick == "cut" else body)
        self.wfile.write(
            body[:amount] if trick == "cut" else body[: len(body) // 2] if trick == "stall" else body
        )
        self.wfile.flush()
        if trick == "stall":
            self.server.stalled.append(True)
            time.sleep(30)
        if trick in ("cut", "stall"):
            self.close_connection = True


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A small checkpoint in the layout of OpenAI's bucket."""
    folder = tmp_path_factory.mktemp("released")
    BPETokenizer.train([]).save(folder / "tokenizer")
    write_model(folder, 0, CONFIG, init(CONFIG, 5))
    (folder / "checkpoint").write_text('model_checkpoint_path: "model.ckpt"\n')
    files = {p.name.replace("model-0", "model.ckpt"): p.read_bytes() for p in folder.iterdir() if p.is_file()}
    assert set(files) == SEVEN
    return files


@pytest.fixture
def server(released: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(resumable, "WAIT", 0.01)
    with serving(Awkward) as made:
        made.files = {f"/gpt-2/models/124M/{name}": data for name, data in released.items()}
        made.tricks, made.ranges, made.sent, made.tagged, made.stalled = {}, [], 0, True, []
        made.mirror = f"{made.address}/gpt-2/models"
        yield made


def get(server: Any, folder: Path) -> dict[str, Any]:
    return pull(folder, PullSettings.of(uri=server.mirror))


def asked(server: Any, name: str) -> list[str]:
    return [wanted for asked, wanted in server.ranges if asked == name]


def assert_whole(folder: Path, released: dict[str, bytes]) -> None:
    """The seven files byte for byte, the manifest over them, and nothing else."""
    assert {p.name for p in folder.iterdir()} == SEVEN | {"manifest.json"}
    found = manifest.read(folder, "model", verify=True)
    assert set(found.files) == SEVEN
    for name, data in released.items():
        assert (folder / name).read_bytes() == data
        assert found.files[name] == {"size": len(data), "sha256": sha256_of(folder / name)}


def test_a_model_is_pulled_from_a_mirror(server: Any, released: dict[str, bytes], tmp_path: Path) -> None:
    figures = get(server, tmp_path / "124M")
    assert_whole(tmp_path / "124M", released)
    found = manifest.read(tmp_path / "124M", "model")
    assert found.settings == {"release": "124M", "uri": server.mirror}
    assert found.details["format"] == "openai"
    assert found.details["config"]["width"] == 32
    assert figures == {
        "format": "openai",
        "parameters": found.details["parameters"],
        "files": 7,
        "bytes": sum(map(len, released.values())),
    }
    assert read_model(tmp_path / "124M")[0] == CONFIG


def test_the_address_of_the_models_own_folder_does_too(server: Any, tmp_path: Path, released: Any) -> None:
    pull(tmp_path / "m", PullSettings.of(uri=f"{server.mirror}/124M/?signature=secret"))
    assert_whole(tmp_path / "m", released)
    assert all("signature=secret" in line for line in server.requests), "the signature goes with each file"
    assert "secret" not in (tmp_path / "m" / "manifest.json").read_text()


def test_the_default_is_openais_bucket(
    server: Any, released: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = urlsplit(pretrained.OPENAI)
    assert (parts.scheme, parts.netloc) == ("https", "openaipublic.blob.core.windows.net")
    monkeypatch.setattr(pretrained, "OPENAI", server.address + parts.path)
    pull(tmp_path / "124M")
    assert_whole(tmp_path / "124M", released)
    server.files |= {p.replace("124M", "355M"): data for p, data in list(server.files.items())}
    pull(tmp_path / "355M", PullSettings.of(release="355M"))
    assert {line.split("/")[3] for line in server.requests} == {"124M", "355M"}


def test_cut_connections_go_on_where_they_were_cut(
    server: Any, released: dict[str, bytes], tmp_path: Path
) -> None:
    server.tricks = {DATA: ["cut 1000", "cut 20000", "cut 1"], "encoder.json": ["cut 0", "cut 9"]}
    get(server, tmp_path / "m")
    assert_whole(tmp_path / "m", released)
    assert asked(server, DATA) == ["", "bytes=1000-", "bytes=21000-", "bytes=21001-"]
    assert server.sent == sum(map(len, released.values())), "no byte twice"


def test_a_bad_day_of_the_server_is_waited_out(
    server: Any, released: dict[str, bytes], tmp_path: Path
) -> None:
    server.tricks = {
        "hparams.json": ["500", "503", "429"],
        DATA: ["502", "cut 500", "429", "504"],
        "model.ckpt.index": ["408"],
    }
    get(server, tmp_path / "m")
    assert_whole(tmp_path / "m", released)


def test_wrong_sizes_are_fetched_again(server: Any, released: dict[str, bytes], tmp_path: Path) -> None:
    server.tricks = {
        "hparams.json": ["lie 10"],
        "checkpoint": ["lie 5"],
        "vocab.bpe": ["lie 4"],
        "model.ckpt.index": ["lie 100"],
        DATA: ["lie 5000", "lie 999999"],
    }
    get(server, tmp_path / "m")
    assert_whole(tmp_path / "m", released)


def test_a_table_cut_short_is_fetched_again(server: Any, released: dict[str, bytes], tmp_path: Path) -> None:
    server.tricks = {"encoder.json": ["lie 300"]}
    get(server, tmp_path / "m")
    assert_whole(tmp_path / "m", released)


def test_a_size_that_stays_wrong_is_given_up_in_one_line(
    server: Any, released: dict[str, bytes], tmp_path: Path
) -> None:
    server.files[f"/gpt-2/models/124M/{DATA}"] = released[DATA][:5000]
    with pytest.raises(
        MachineError, match=r"has 5,000 bytes where there must be [\d,]+; what has come is kept"
    ):
        get(server, tmp_path / "m")
    assert asked(server, DATA) == [""] * resumable.ATTEMPTS
    assert not (tmp_path / "m" / "manifest.json").exists()
    server.files[f"/gpt-2/models/124M/{DATA}"] = released[DATA]
    get(server, tmp_path / "m")
    assert_whole(tmp_path / "m", released)


def test_a_server_that_ignores_ranges_sends_all_again(
    server: Any, released: dict[str, bytes], tmp_path: Path
) -> None:
    server.tricks = {DATA: ["cut 3000", "whole"]}
    get(server, tmp_path / "m")
    assert_whole(tmp_path / "m", released)
    assert asked(server, DATA) == ["", "bytes=3000-"]


def test_a_server_without_versions_is_never_gone_on_with(
    server: Any, released: dict[str, bytes], tmp_path: Path
) -> None:
    """Without an ETag or a date the beginning of one version could get the end of another."""
    server.tagged = False
    server.tricks = {DATA: ["cut 3000"]}
    get(server, tmp_path / "m")
    assert_whole(tmp_path / "m", released)
    assert asked(server, DATA) == ["", ""]


def test_a_file_that_changes_in_between_is_begun_anew(
    server: Any, released: dict[str, bytes], tmp_path: Path
) -> None:
    server.tricks = {DATA: ["cut 3000", "changed"]}
    get(server, tmp_path / "m")
    assert (tmp_path / "m" / DATA).read_bytes() == released[DATA][::-1]


def test_a_server_that_is_gone_is_one_line_and_the_next_pull_goes_on(
    server: Any, released: dict[str, bytes], tmp_path: Path
) -> None:
    server.tricks = {DATA: ["cut 4000", *["500"] * 20]}
    with pytest.raises(
        MachineError, match=r"cannot fetch model.*the server answered 500.*start again later"
    ) as caught:
        get(server, tmp_path / "m")
    assert "\n" not in str(caught.value)
    assert len(asked(server, DATA)) == 1 + resumable.ATTEMPTS - 1
    server.tricks, server.ranges, server.sent = {}, [], 0
    get(server, tmp_path / "m")
    assert_whole(tmp_path / "m", released)
    assert server.ranges == [(DATA, "bytes=4000-")], "the other files are not asked for again"
    assert server.sent == len(released[DATA]) - 4000


def test_a_killed_pull_is_gone_on_with(server: Any, released: dict[str, bytes], tmp_path: Path) -> None:
    server.tricks = {DATA: ["stall"]}
    code = (
        "import sys; from pathlib import Path; from textmill.checkpoints.pretrained import PullSettings, pull\n"
        "pull(Path(sys.argv[1]), PullSettings.of(uri=sys.argv[2]))"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "m"), server.mirror])
    part = tmp_path / "m" / f".{DATA}.part"
    half = len(released[DATA]) // 2
    while not (server.stalled and part.exists() and part.stat().st_size > half // 2):
        assert child.poll() is None
        time.sleep(0.02)
    with pytest.raises(InputError, match="another process is pulling"):
        get(server, tmp_path / "m")
    child.send_signal(signal.SIGKILL)
    child.wait()
    with pytest.raises(FolderError, match="is not a model: it has no manifest"):
        manifest.read(tmp_path / "m", "model")
    server.ranges = []
    get(server, tmp_path / "m")
    assert_whole(tmp_path / "m", released)
    [(name, wanted)] = server.ranges
    assert name == DATA
    assert int(wanted.removeprefix("bytes=").rstrip("-")) > half // 2


def test_what_is_whole_is_not_fetched_again(server: Any, released: dict[str, bytes], tmp_path: Path) -> None:
    first = get(server, tmp_path / "m")
    server.ranges = []
    assert get(server, tmp_path / "m") == first
    assert server.ranges == []
    (tmp_path / "m" / DATA).write_bytes(bytes(len(released[DATA])))
    with pytest.raises(FolderError, match="was altered"):
        get(server, tmp_path / "m")


def test_a_folder_of_something_else_is_left_alone(server: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("dear diary")
    with pytest.raises(FolderError, match="is not empty and holds no model"):
        get(server, tmp_path)
    get(server, tmp_path / "m")
    with pytest.raises(FolderError, match=r"holds 124M of .* already; choose another folder"):
        pull(tmp_path / "m", PullSettings.of(release="355M", uri=server.mirror))
    server.tricks = {DATA: ["500"] * 10}
    with pytest.raises(MachineError):
        get(server, tmp_path / "n")
    with pytest.raises(FolderError, match="the beginning of another model"):
        pull(tmp_path / "n", PullSettings.of(release="355M", uri=server.mirror))
    with pytest.raises(InputError, match="a file of that name is in the way"):
        get(server, tmp_path / "mine.txt")
    assert (tmp_path / "mine.txt").read_text() == "dear diary"


@pytest.mark.parametrize(
    ("uri", "line"),
    [
        (
            "{server}/nothing",
            "there is no GPT-2 at .*/nothing or .*/nothing/124M: no hparams.json and no config",
        ),
        ("ftp://host/models", "is fetched from https"),
        ("https://user:pass1@host/models", "end up in logs"),
        ("https:///models", "not an address of the form"),
        ("/no/such/folder", "there is no GPT-2 at /no/such/folder or"),
    ],
)
def test_a_wrong_address_is_one_line(uri: str, line: str, server: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=line) as caught:
        pull(tmp_path / "m", PullSettings.of(uri=uri.format(server=server.address)))
    assert "pass1" not in str(caught.value)


def test_a_file_that_the_mirror_lacks_is_named(server: Any, tmp_path: Path) -> None:
    del server.files["/gpt-2/models/124M/encoder.json"]
    with pytest.raises(
        InputError, match=r"lacks encoder\.json \(the server answered 404.*\); it is no whole model"
    ):
        get(server, tmp_path / "m")
    server.tricks = {"hparams.json": ["403"] * 9}
    with pytest.raises(InputError, match="there is no GPT-2 at"):
        get(server, tmp_path / "n")


def test_files_of_different_models_are_refused(server: Any, tmp_path: Path) -> None:
    sizes = {"n_vocab": 257, "n_ctx": 64, "n_embd": 64, "n_head": 2, "n_layer": 2}
    server.files["/gpt-2/models/124M/hparams.json"] = json.dumps(sizes).encode()
    with pytest.raises(FolderError, match="files of different models were mixed"):
        get(server, tmp_path / "m")
    assert not (tmp_path / "m" / "manifest.json").exists()


def test_a_model_of_hugging_face_is_pulled(server: Any, tmp_path: Path) -> None:
    BPETokenizer.train([]).save(tmp_path / "tokenizer")
    weights = init(CONFIG, 6)
    huggingface.write_model(tmp_path / "there", CONFIG, weights, tmp_path / "tokenizer")
    server.files = {f"/mine/{p.name}": p.read_bytes() for p in (tmp_path / "there").iterdir()}
    server.tricks = {"model.safetensors": ["cut 2000", "500", "cut 100"], "merges.txt": ["lie 3"]}
    settings = PullSettings.of(uri=f"{server.address}/mine")
    figures = pull(tmp_path / "m", settings)
    assert figures["format"] == "huggingface"
    assert {p.name for p in (tmp_path / "m").iterdir()} == {
        *(p.name for p in (tmp_path / "there").iterdir()),
        "manifest.json",
    }
    found = huggingface.read_model(tmp_path / "m")[1]
    assert all(np.array_equal(found[name], weights[name]) for name in weights)
    # in two parts, and the tokenizer in one file
    from safetensors.numpy import load_file, save_file

    tensors = load_file(tmp_path / "there" / "model.safetensors")
    places = {name: f"model-{i % 2 + 1}.safetensors" for i, name in enumerate(sorted(tensors))}
    for part in set(places.values()):
        save_file({k: tensors[k] for k, v in places.items() if v == part}, tmp_path / part)
        server.files[f"/mine/{part}"] = (tmp_path / part).read_bytes()
    server.files["/mine/model.safetensors.index.json"] = json.dumps({"weight_map": places}).encode()
    for name in ("model.safetensors", "vocab.json", "merges.txt"):
        del server.files[f"/mine/{name}"]
    pull(tmp_path / "n", settings)
    found = huggingface.read_model(tmp_path / "n")[1]
    assert all(np.array_equal(found[name], weights[name]) for name in weights)


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_a_folder_of_this_machine_is_a_mirror(form: str, released: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "models" / "124M").mkdir(parents=True)
    for name, data in released.items():
        (tmp_path / "models" / "124M" / name).write_bytes(data)
    pull(tmp_path / "m", PullSettings.of(uri=form.format(tmp_path / "models")))
    assert_whole(tmp_path / "m", released)
    half = len(released[DATA]) // 2  # as a kill leaves it
    for name in ("manifest.json", DATA):
        (tmp_path / "m" / name).unlink()
    (tmp_path / "m" / f".{DATA}.part").write_bytes(bytes(half))
    there = tmp_path / "models" / "124M" / DATA
    note = {"tag": str(there.stat().st_mtime), "total": len(released[DATA])}
    (tmp_path / "m" / f".{DATA}.part.json").write_text(json.dumps(note))
    (tmp_path / "m" / ".pull.json").write_text(
        json.dumps({"release": "124M", "uri": form.format(tmp_path / "models"), "place": 1})
    )
    pull(tmp_path / "m", PullSettings.of(uri=form.format(tmp_path / "models")))
    assert (tmp_path / "m" / DATA).read_bytes() == bytes(half) + released[DATA][half:], "went on"


def test_a_bucket_is_a_mirror(
    released: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("s3fs")
    for variable in list(os.environ):
        if variable.startswith("AWS_"):
            monkeypatch.delenv(variable)
    with serving(FakeS3) as server:
        server.files = {f"/models/gpt2/124M/{name}": data for name, data in released.items()}
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.address)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        with contextlib.ExitStack():
            pull(tmp_path / "m", PullSettings.of(uri="s3://models/gpt2"))
    assert_whole(tmp_path / "m", released)


def test_no_space_is_said_before_it_is_used(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resumable, "SPARE", 1 << 62)
    with pytest.raises(MachineError, match=r"GB free, .* GB are to come; free some"):
        get(server, tmp_path / "m")


def test_describe_says_what_a_folder_holds(released: dict[str, bytes], tmp_path: Path) -> None:
    for name, data in released.items():
        (tmp_path / name).write_bytes(data)
    found = describe(tmp_path)
    assert (found["format"], found["config"]["num_layers"], found["step"]) == ("openai", 2, 0)
    shutil.copy(tmp_path / "hparams.json", tmp_path / "kept")
    (tmp_path / DATA).write_bytes(released[DATA][:-4])
    with pytest.raises(FolderError, match="is truncated"):
        describe(tmp_path)
    with pytest.raises(FolderError, match="holds no GPT-2"):
        describe(tmp_path / "nowhere")
