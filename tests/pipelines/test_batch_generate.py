"""batch_generate from its compiled YAML: groups in a loop, killed in the middle and gone on with, the texts of a single
generate."""

from __future__ import annotations

import io
import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.generating import gpt2_generator, save, transformer
from textmill.errors import MachineError
from textmill.generate import GenerateSettings, generate
from textmill.local.running import RunResult, run_pipeline

RECIPE = Path(__file__).parents[2] / "pipelines" / "compiled" / "batch_generate.yaml"
ASKED: dict[str, Any] = {"number": 2, "length": 12, "seed": 3, "temperature": 0.9}


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def run(output: Path, checkpoint: Path, source: Path, groups: int) -> RunResult:
    asked = {"checkpoint": str(checkpoint), "source": str(source), "groups": groups, **ASKED}
    return run_pipeline(RECIPE, asked, output, out=io.StringIO())


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    generator = gpt2_generator()
    return save(tmp_path / "model", generator, transformer(generator.tokenizer)[1])


def test_batch_generate(checkpoint: Path, tmp_path: Path) -> None:
    source = tmp_path / "prompts.txt"
    source.write_text("the\nand the\n\nan\n")
    output = tmp_path / "out"
    loop = "for-loop-1"
    killing = threading.Thread(target=kill_the_second_group, args=(output / loop,), daemon=True)
    killing.start()
    with pytest.raises(MachineError, match=r"generate-group of .* was killed"):
        run(output, checkpoint, source, groups=3)
    killing.join()
    whole = {p.parent: p.stat().st_mtime_ns for p in (output / loop).rglob("texts/manifest.json")}
    assert 1 <= len(whole) < 3, "some are there, and some are not"
    result = run(output, checkpoint, source, groups=3)
    assert sorted(result.items) == ["0:2", "2:4", "4:6"]
    for folder, before in whole.items():
        assert (folder / "manifest.json").stat().st_mtime_ns == before, "what was there is not written again"
    assert result.text is not None
    generate(checkpoint, tmp_path / "once", GenerateSettings.of(**ASKED), prompts=source)
    assert tree(result.text.parent) == tree(tmp_path / "once")
    assert [json.loads(line)["index"] for line in (tmp_path / "once" / "texts.jsonl").open()] == list(
        range(6)
    )
    [throughput] = output.rglob("throughput")
    assert "| all, one after the other | 6 |" in throughput.read_text()


def kill_the_second_group(loop: Path) -> None:
    """SIGKILL to a group's task while another group is whole."""
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline:
        if list(loop.rglob("texts/manifest.json")):
            for entry in Path("/proc").iterdir():
                if entry.name.isdigit() and is_a_group(entry):
                    os.killpg(int(entry.name), signal.SIGKILL)
                    return
        time.sleep(0.005)


def is_a_group(entry: Path) -> bool:
    """A task that this process started, and that writes a group that is not whole."""
    try:
        parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        words = (entry / "cmdline").read_bytes().decode().split("\0")
    except OSError:
        return False
    if (
        parent != os.getpid()
        or "--executor_input" not in words
        or "def generate_group(" not in " ".join(words)
    ):
        return False
    given = json.loads(words[words.index("--executor_input") + 1])
    texts = Path(given["outputs"]["artifacts"]["texts"]["artifacts"][0]["uri"])
    return not (texts / "manifest.json").exists()


def test_each_group_has_its_pod_and_its_cores() -> None:
    spec = next(yaml.safe_load_all(RECIPE.read_text(encoding="utf-8")))
    tasks = spec["root"]["dag"]["tasks"]
    loop = next(task for task in tasks.values() if "parameterIterator" in task)
    assert loop["iteratorPolicy"]["parallelismLimit"] == 16
    assert list(spec["components"][loop["componentRef"]["name"]]["dag"]["tasks"]) == ["generate-group"]
    resources = spec["deploymentSpec"]["executors"]["exec-generate-group"]["container"]["resources"]
    assert (resources["resourceCpuLimit"], resources["resourceMemoryRequest"]) == ("2", "6Gi")
    assert tasks["split-prompts"].get("cachingOptions", {}).get("enableCache") is not True
