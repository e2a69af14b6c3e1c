"""docs/failures.md: each row is made to happen here, or names the test that asserts the very message.

A row's text is what a user sees, with … for what differs. A row without a proof, and a proof without a row, fails.
"""

from __future__ import annotations

import ast
import contextlib
import errno
import fcntl
import functools
import os
import re
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.cluster_verbs.kfp_server import State, serve
from tests.sources.fakes import Fake, serving
from textmill import files, manifest
from textmill.cli import main
from textmill.errors import TextmillError

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "failures.md").read_text(encoding="utf-8")
ROWS = {found[1]: found[2] for found in re.finditer(r'^\| <a id="([\w-]+)"></a>(.*)$', TEXT, re.MULTILINE)}
TINY = ["--model", "char-gru", "--preset", "tiny"]


def seen(row: str) -> list[str]:
    """The texts of a row's first cell."""
    return re.findall(r"`([^`]+)`", ROWS[row].split(" | ")[0])


def one_line(text: str) -> str:
    return " ".join(text.split())


def matches(text: str, output: str) -> bool:
    """Does the output hold the text, with anything in the place of each …?"""
    parts = [re.escape(part) for part in one_line(text).split("…")]
    return re.search(".*?".join(parts), one_line(output)) is not None


# ---------------------------------------------------------------------- rows that are made to happen


@dataclass
class Bench:
    """What a row is made to happen with."""

    folder: Path
    corpus: Path
    dataset: Path
    begun: Callable[[], Path]  # a checkpoint of two steps
    monkeypatch: pytest.MonkeyPatch

    def run(self, *words: object, **environment: str) -> str:
        """What `textmill …` says; it must end with an error, and without a traceback."""
        found = CliRunner().invoke(main, [str(word) for word in words], env=environment)
        assert found.exit_code in (1, 2, 3), found.output
        assert "Traceback" not in found.output
        return found.output


@pytest.fixture(scope="module")
def begun(char_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """Made when it is first asked for."""

    @functools.cache
    def made() -> Path:
        folder = tmp_path_factory.mktemp("begun") / "checkpoint"
        words = ["train", str(char_dataset), "-o", str(folder), *TINY, "--max-steps", "2"]
        found = CliRunner().invoke(main, words)
        assert found.exit_code == 0, found.output
        return folder

    return made


@pytest.fixture
def bench(
    tmp_path: Path,
    corpus: Path,
    char_dataset: Path,
    begun: Callable[[], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> Bench:
    for name in ("KFP_ENDPOINT", "KF_PIPELINES_ENDPOINT", "KFP_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KUBECONFIG", "/nonexistent/config")
    monkeypatch.chdir(tmp_path)
    return Bench(tmp_path, corpus, char_dataset, begun, monkeypatch)


Happening = Callable[[Bench], str]
HAPPENINGS: dict[str, Happening] = {}


def row(name: str) -> Callable[[Happening], Happening]:
    def keep(happening: Happening) -> Happening:
        HAPPENINGS[name] = happening
        return happening

    return keep


@row("no-package")
def _(bench: Bench) -> str:
    from importlib import util

    found = util.find_spec
    bench.monkeypatch.setattr(util, "find_spec", lambda name, *a: None if name == "s3fs" else found(name, *a))
    return bench.run("ingest", "s3://texts/plays/")


@row("unknown-setting")
def _(bench: Bench) -> str:
    (bench.folder / "settings.yaml").write_text("generate: {temprature: 1}\n")
    return bench.run("generate", "checkpoint", "--config", "settings.yaml")


@row("wrong-type")
def _(bench: Bench) -> str:
    return bench.run("train", bench.dataset, TEXTMILL_TRAIN_SEED="seven")


@row("out-of-range")
def _(bench: Bench) -> str:
    return bench.run("generate", "checkpoint", "--temperature", "-1")


@row("unknown-option")
def _(bench: Bench) -> str:
    return bench.run("generate", "checkpoint", "--temprature", "1")


@row("unknown-recipe")
def _(bench: Bench) -> str:
    return bench.run("run", "quikstart")


@row("unknown-parameter")
def _(bench: Bench) -> str:
    return bench.run("run", "quickstart", "--param", "sede=1")


@row("missing-parameter")
def _(bench: Bench) -> str:
    return bench.run("run", "script_generate")


@row("unknown-model")
def _(bench: Bench) -> str:
    return bench.run("train", bench.dataset, "--model", "gpt3")


@row("unknown-preset")
def _(bench: Bench) -> str:
    return bench.run("train", bench.dataset, "--model", "gpt2", "--preset", "117M")


@row("old-yaml")
def _(bench: Bench) -> str:
    """What kfp 1 compiled to."""
    old = "apiVersion: argoproj.io/v1alpha1\nkind: Workflow\nspec: {entrypoint: mine}\n"
    (bench.folder / "mine.yaml").write_text(old)
    return bench.run("run", "mine.yaml")


@row("component-yaml")
def _(bench: Bench) -> str:
    return bench.run("run", ROOT / "components" / "train" / "component.yaml")


@row("no-source")
def _(bench: Bench) -> str:
    return bench.run("ingest", "plays/hamlett.txt")


@row("unknown-source")
def _(bench: Bench) -> str:
    return bench.run("ingest", "htps://example.org/plays/")


@row("no-text")
def _(bench: Bench) -> str:
    (bench.folder / "pictures").mkdir()
    (bench.folder / "pictures" / "mill.png").write_bytes(b"\x89PNG")
    return bench.run("ingest", "pictures")


@row("server-refuses")
def _(bench: Bench) -> str:
    with serving(Fake) as server:
        server.files = {}
        return bench.run("ingest", f"{server.address}/hamlet.txt")


@row("server-down")
def _(bench: Bench) -> str:
    bench.monkeypatch.setattr("textmill.sources.web.WAIT", 0.0)
    return bench.run("ingest", f"http://127.0.0.1:{free_port()}/hamlet.txt")


@row("too-little-text")
def _(bench: Bench) -> str:
    return bench.run("train", bench.dataset, *TINY, "--set", "batch_size=1000")


@row("all-dropped")
def _(bench: Bench) -> str:
    return bench.run("normalize", bench.corpus, "--rules", "min_length(1000000)")


@row("no-folder")
def _(bench: Bench) -> str:
    return bench.run("train", "dataset")


@row("half-written")
def _(bench: Bench) -> str:
    shutil.copytree(bench.corpus, bench.folder / "copy")
    (bench.folder / "copy" / manifest.NAME).unlink()
    return bench.run("normalize", "copy")


@row("wrong-folder")
def _(bench: Bench) -> str:
    return bench.run("train", bench.corpus)


@row("damaged-folder")
def _(bench: Bench) -> str:
    shutil.copytree(bench.corpus, bench.folder / "copy")
    shard = next((bench.folder / "copy" / "shards").iterdir())
    shard.write_bytes(shard.read_bytes()[:-10])
    return bench.run("normalize", "copy")


@row("newer-folder")
def _(bench: Bench) -> str:
    bench.monkeypatch.setattr(manifest, "VERSION", 0)
    return bench.run("normalize", bench.corpus)


@row("in-the-way")
def _(bench: Bench) -> str:
    (bench.folder / "corpus").write_text("a file")
    return bench.run("ingest", "sample:play")


@row("at-work")
def _(bench: Bench) -> str:
    (bench.folder / "corpus").mkdir()
    held = os.open(bench.folder / "corpus", os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        return bench.run("ingest", "sample:play")
    finally:
        os.close(held)


@row("full-disk")
def _(bench: Bench) -> str:
    fail_writing(bench, errno.ENOSPC)
    return bench.run("normalize", bench.corpus)


@row("no-permission")
def _(bench: Bench) -> str:
    fail_writing(bench, errno.EACCES)
    return bench.run("normalize", bench.corpus)


@row("no-gpu")
def _(bench: Bench) -> str:
    from textmill.doctor import machine

    bench.monkeypatch.setattr(machine.shutil, "which", lambda name: None)
    bench.monkeypatch.setattr(machine, "NVIDIA", bench.folder / "nothing")
    found = machine._gpu()
    return f"{found.what}: {found.text}"


@row("changed-corpus")
def _(bench: Bench) -> str:
    shutil.copytree(bench.begun(), "checkpoint")
    bench.monkeypatch.setenv("TEXTMILL_NORMALIZE_RULES", "whitespace")
    CliRunner().invoke(main, ["normalize", str(bench.corpus), "-o", "other"])
    return bench.run("train", "other", *TINY)


@row("changed-setting")
def _(bench: Bench) -> str:
    shutil.copytree(bench.begun(), "checkpoint")
    return bench.run("train", bench.dataset, *TINY, "--seed", "8", "--max-steps", "2")


@row("damaged-checkpoint")
def _(bench: Bench) -> str:
    shutil.copytree(bench.begun(), "checkpoint")
    (weights,) = Path("checkpoint").glob("weights-*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-10])
    return bench.run("generate", "checkpoint")


@row("no-credentials")
def _(bench: Bench) -> str:
    pytest.importorskip("s3fs")
    for name in [name for name in os.environ if name.startswith(("AWS_", "FSSPEC_S3", "MINIO_"))]:
        bench.monkeypatch.delenv(name)
    bench.monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    bench.monkeypatch.setenv("HOME", str(bench.folder))
    return bench.run("ingest", "s3://texts/plays/")


@row("unknown-store")
def _(bench: Bench) -> str:
    return bench.run("train", bench.dataset, *TINY, "--publish-uri", "ftp://here/there")


@row("no-endpoint")
def _(bench: Bench) -> str:
    return bench.run("submit", "quickstart")


@row("wrong-endpoint")
def _(bench: Bench) -> str:
    return bench.run("submit", "quickstart", "--endpoint", f"http://127.0.0.1:{free_port()}")


@row("not-kfp")
def _(bench: Bench) -> str:
    with serving(Fake) as server:
        server.files = {}
        return bench.run("submit", "quickstart", "--endpoint", server.address)


@row("expired-token")
def _(bench: Bench) -> str:
    state = State(token="the-new-token")
    with serve(state) as address:
        said = bench.run("submit", "quickstart", "--endpoint", address, KFP_TOKEN="the-old-token")
    assert "the-old-token" not in said
    return said


@row("forbidden")
def _(bench: Bench) -> str:
    import kfp_server_api

    from textmill.cluster.connection import api_errors

    with pytest.raises(TextmillError) as caught, api_errors("http://localhost:8888"):
        raise kfp_server_api.ApiException(status=403)
    return str(caught.value)


@row("run-failed")
def _(bench: Bench) -> str:
    bench.monkeypatch.setattr("textmill.cluster.follow.EVERY", 0.01)
    state = State(ends="FAILED")
    with serve(state) as address:
        return bench.run("submit", "quickstart", "--endpoint", address)


@row("port-taken")
def _(bench: Bench) -> str:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        return bench.run("serve", "checkpoint", "--port", other.getsockname()[1])


@row("short-token")
def _(bench: Bench) -> str:
    return bench.run("serve", "checkpoint", TEXTMILL_SERVE_TOKEN="secret")


@row("loading")
def _(bench: Bench) -> str:
    with loading_service() as service:
        return service.complete(prompt="a").text


@row("wrong-token")
def _(bench: Bench) -> str:
    with loading_service(tokens=("a-token-of-ours",)) as service:
        asked = {"Authorization": "Bearer a-token-of-theirs"}
        return service.client.get("/v1/models", headers=asked).text


@row("too-often")
def _(bench: Bench) -> str:
    with loading_service(rate_limit=1) as service:
        service.client.get("/v1/models")
        return service.client.get("/v1/models").text


@contextlib.contextmanager
def loading_service(**told: Any) -> Iterator[Any]:
    """A service whose model does not come."""
    pytest.importorskip("starlette")
    from tests.serving.running import running

    ended = threading.Event()

    def load() -> Any:
        ended.wait(60)
        raise TextmillError("there is none")

    with contextlib.suppress(TextmillError), running(load, ready=False, **told) as service:
        try:
            yield service
        finally:
            ended.set()


def fail_writing(bench: Bench, number: int) -> None:
    def failing(path: Path) -> None:
        raise OSError(number, os.strerror(number))

    bench.monkeypatch.setattr(files, "sync_file", failing)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.mark.parametrize("name", HAPPENINGS)
def test_what_the_document_shows_is_what_one_sees(name: str, bench: Bench) -> None:
    said = HAPPENINGS[name](bench)
    assert any(matches(text, said) for text in seen(name)), said


# ---------------------------------------------------------------------- rows that another test makes happen


@dataclass(frozen=True)
class Asserted:
    """A test, and what it asserts of the message: both it and the document hold that."""

    test: str
    text: str


ASSERTED = {
    "wrong-python": Asserted(
        "tools/test_setup.py::test_another_python_is_named",
        ". Say which one: make PYTHON=python3.11 …",
    ),
    "no-venv": Asserted(
        "tools/test_setup.py::test_a_python_without_venv_says_what_to_install",
        "this Python has no venv module; on Debian and Ubuntu: apt-get install python3-venv",
    ),
    "no-network": Asserted("tools/test_setup.py::", "no package registry can be reached; check the network"),
    "no-space": Asserted("tools/test_setup.py::", "no space left: the packages take 4 GB in "),
    "no-place": Asserted("tools/test_setup.py::", "no permission to write "),
    "redirect": Asserted(
        "sources/test_redirects.py::test_metadata_never_becomes_a_corpus_or_a_model",
        "redirects to 169.254.169.254, a link-local or metadata address; if that",
    ),
    "bad-archive": Asserted("sources/test_archive.py::", "points out of the archive's folder"),
    "bomb": Asserted("sources/test_archive.py::", "decompression bomb"),
    "memory-plan": Asserted("training/test_memory_plan.py::", "It would fit with: "),
    "killed": Asserted("local/test_running.py::", "was killed, most likely for want of memory"),
    "loss-nan": Asserted("test_train.py::", "lower learning_rate"),
    "pickled": Asserted("checkpoints/test_huggingface.py::", "pickled"),
    "no-bucket": Asserted("stores/test_gcs.py::", "there is no such bucket"),
    "store-down": Asserted(
        "checkpoints/test_publishing.py::"
        "test_while_the_store_fails_training_goes_on_and_the_newest_is_published_later",
        "training goes on",
    ),
    "half-uploaded": Asserted(
        "checkpoints/test_publishing.py::test_a_damaged_step_is_passed_over_and_dropped", "passing over step "
    ),
    "no-image": Asserted("cluster_verbs/test_doctor.py::test_why_a_pod_waits", "ErrImagePull"),
    "pod-waits": Asserted(
        "cluster_verbs/test_task_rows.py::test_a_killed_pod_is_a_second_attempt",
        "Insufficient nvidia.com/gpu",
    ),
    "pod-lost": Asserted(
        "cluster_verbs/test_task_rows.py::test_a_killed_pod_is_a_second_attempt", ", attempt 2"
    ),
    "queue-full": Asserted(
        "serving/test_connections.py::test_when_the_queue_is_full_the_answer_says_when_to_come_again",
        "too many requests wait already; try again later.",
    ),
    "shutting-down": Asserted(
        "serving/test_server.py::test_draining_sends_whole_answers_and_takes_no_new_ones",
        "the service is shutting down; try again later.",
    ),
    "prompt-too-long": Asserted("serving/test_completions.py::", "tokens; this model reads at most "),
}


@pytest.mark.parametrize("name", ASSERTED)
def test_the_message_is_asserted_where_the_list_says(name: str) -> None:
    path, _, function = ASSERTED[name].test.partition("::")
    source = (ROOT / "tests" / path).read_text(encoding="utf-8")
    found = [
        ast.get_source_segment(source, node) or ""
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef) and node.name == function
    ]
    assert ASSERTED[name].text in (found[0] if function else source), f"{path} asserts something else"
    assert any(ASSERTED[name].text in text for text in seen(name)), "the document says something else"


def test_every_row_has_a_proof_and_every_proof_a_row() -> None:
    on_a_cluster = {name for name in ROWS if "tests/cluster/" in ROWS[name]}
    proved = {*HAPPENINGS, *ASSERTED}
    assert set(ROWS) - on_a_cluster - proved == set(), "rows without a proof"
    assert proved - set(ROWS) == set(), "proofs without a row"
    assert len(ROWS) == len(re.findall(r'<a id="', TEXT)), "an id stands twice, or not at the row's beginning"


def test_the_cluster_tests_that_are_named_exist() -> None:
    named = re.findall(r"`(tests/cluster/\w+\.py)::(\w+)`", TEXT)
    assert len(named) >= 4
    for path, function in named:
        assert f"def {function}(" in (ROOT / path).read_text(encoding="utf-8"), function
