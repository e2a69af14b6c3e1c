"""large_corpus_gpt2 from its compiled YAML: groups of shards in a loop, put together; the dataset of one normalize."""

from __future__ import annotations

import io
from pathlib import Path

import yaml

from textmill.corpora.corpus import read_corpus
from textmill.local.running import run_pipeline
from textmill.normalize import NormalizeSettings, normalize

RECIPE = Path(__file__).parents[2] / "pipelines" / "compiled" / "large_corpus_gpt2.yaml"
TINY = {"preset": "tiny", "overrides": {"validate_every": 1}, "steps": 2, "length": 20, "number": 1}


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_large_corpus_gpt2(tmp_path: Path) -> None:
    source = tmp_path / "texts"
    source.mkdir()
    for i in range(6):
        words = " ".join(f"word{(i * 17 + k * k) % 83}" for k in range(150))
        (source / f"{i}.txt").write_text(f"Text number {i} says:  {words}.\nNo part may be copied.\n")
    (source / "7.txt").write_text((source / "2.txt").read_text())
    rules = "whitespace,boilerplate(share=0.5)"
    settings = {"source": str(source), "groups": 3, "rules": rules, "vocabulary_size": 300}
    result = run_pipeline(RECIPE, {**settings, **TINY}, tmp_path / "out", out=io.StringIO())
    assert result.text is not None
    assert result.text.read_text().strip()
    assert len([task for task in result.tasks if task.name.startswith("normalize-shards")]) == 3
    corpus = next((tmp_path / "out").rglob("corpus/manifest.json")).parent
    assert len(read_corpus(corpus).items) == 7
    [merged] = [path.parent for path in (tmp_path / "out").rglob("dataset/manifest.json")]
    once = NormalizeSettings.of(rules=rules, tokenizer="bpe", vocabulary_size=300)
    normalize(corpus, tmp_path / "once", once)
    assert tree(merged) == tree(tmp_path / "once")


def test_each_group_has_its_pod_and_the_parts_come_to_one() -> None:
    spec = next(yaml.safe_load_all(RECIPE.read_text(encoding="utf-8")))
    tasks = spec["root"]["dag"]["tasks"]
    loop = next(task for task in tasks.values() if "parameterIterator" in task)
    assert loop["iteratorPolicy"]["parallelismLimit"] == 16
    [name] = spec["components"][loop["componentRef"]["name"]]["dag"]["tasks"]
    assert name == "normalize-shards"
    [parts] = [
        value
        for value in tasks["normalize-merge"]["inputs"]["artifacts"].values()
        if "taskOutputArtifact" in value
    ]
    assert parts["taskOutputArtifact"]["producerTask"] in tasks
    resources = spec["deploymentSpec"]["executors"]["exec-normalize-shards"]["container"]["resources"]
    asked = [resources[f"resource{what}"] for what in ("CpuRequest", "CpuLimit", "MemoryRequest")]
    assert asked == ["1", "2", "4Gi"], "a node of two cores never has two free"
