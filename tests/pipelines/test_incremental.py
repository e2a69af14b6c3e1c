"""Incremental to the end, counted: after one edited text the pipeline, run again, makes anew its shard, that shard's
normalized form and what depends on them. The tasks' own metrics say what was made, and what was there."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from tests.contracts.collected_contract import QUICK
from tests.sources.sites import Wiki, site
from textmill import manifest
from textmill.local.running import RunResult, run_pipeline

COMPILED = Path(__file__).parents[2] / "pipelines" / "compiled"
TINY = {"preset": "tiny", "overrides": {"validate_every": 1}, "steps": 2, "number": 1}


def run(name: str, output: Path, **parameters: Any) -> tuple[RunResult, str]:
    said = io.StringIO()
    return run_pipeline(COMPILED / f"{name}.yaml", {**TINY, **parameters}, output, out=said), said.getvalue()


def figures(task: Path) -> dict[str, Any]:
    """A task's metrics, as KFP shows them."""
    output = json.loads((task / "executor_output.json").read_bytes())
    found: dict[str, Any] = output["artifacts"]["metrics"]["artifacts"][0]["metadata"]
    return found


def made(task: Path) -> dict[str, tuple[int, int]]:
    """(shards made, shards that were there) of each step of a normalize."""
    found = figures(task)
    steps = [name for name in ("cleaned", "counted", "encoded") if f"shards_{name}" in found]
    return {name: (found[f"shards_{name}"], found[f"shards_{name}_before"]) for name in steps}


def digest(folder: Path | None, kind: str) -> str:
    assert folder is not None
    return manifest.read(folder, kind).digest


def posts(author: str, word: str) -> list[str]:
    return [f"Day {i}: {word} and {word} again, {author} said, {i * 7}." for i in range(30)]


def write(path: Path, texts: list[str]) -> None:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


def test_one_edited_post_costs_its_author_alone(tiny_gpt2: str, tmp_path: Path) -> None:
    """ann's chain finds all its work done, to the checkpoint; bob's is cleaned, encoded and trained anew."""
    folder, output = tmp_path / "posts", tmp_path / "out"
    folder.mkdir()
    write(folder / "ann.jsonl", posts("ann", "bread"))
    write(folder / "bob.jsonl", posts("bob", "stars"))
    asked = {"source": str(folder), "base_uri": tiny_gpt2, "most_characters": 40}
    run("tweets_gpt2", output, **asked)
    chains = {name: output / "for-loop-1" / f"{name}.jsonl" for name in ("ann", "bob")}
    assert made(chains["ann"] / "normalize") == {"cleaned": (1, 0), "encoded": (1, 0)}
    before, kept = {name: digests(chain) for name, chain in chains.items()}, corpora(output)

    write(folder / "bob.jsonl", [*posts("bob", "stars")[:-1], "Day 29: the stars went home, bob said."])
    _, said = run("tweets_gpt2", output, **asked)
    ingested = figures(output / "ingest")
    assert (ingested["changed"], ingested["unchanged"], ingested["new"]) == (1, 1, 0)
    assert made(chains["ann"] / "normalize") == {"cleaned": (0, 1), "encoded": (0, 1)}
    assert made(chains["bob"] / "normalize") == {"cleaned": (1, 0), "encoded": (1, 0)}
    assert [line for line in said.splitlines() if "nothing left to do" in line and "ann.jsonl" in line]
    assert not [line for line in said.splitlines() if "nothing left to do" in line and "bob.jsonl" in line]
    after = {name: digests(chain) for name, chain in chains.items()}
    assert corpora(output)["ann.jsonl"] == kept["ann.jsonl"], "so KFP's cache has what was made of it"
    assert corpora(output)["bob.jsonl"] != kept["bob.jsonl"]
    assert after["ann"] == before["ann"]
    assert all(new != old for new, old in zip(after["bob"], before["bob"], strict=True))


def corpora(output: Path) -> dict[str, str]:
    """The folder of each item's corpus."""
    found = json.loads((output / "list-items" / "shelf" / "folders.json").read_bytes())
    for folder in found.values():
        manifest.read(Path(folder), "corpus", verify=True)
    return {Path(folder).name: folder for folder in found.values()}


def digests(chain: Path) -> list[str]:
    """Of an item's dataset and checkpoint."""
    return [
        digest(chain / "normalize" / "dataset", "dataset"),
        digest(chain / "train" / "checkpoint", "checkpoint"),
    ]


def episode(number: int) -> str:
    """No near duplicate of another one, also when its digits are masked."""
    syllables = ("ba", "do", "fi", "ku", "le", "mo", "ra", "ti", "vu")
    words = [syllables[(k * number) % 9] + syllables[(k + number * k // 9) % 9] for k in range(80)]
    return f"The wheel of mill {number} turned, and it said: {' '.join(words)}."


def test_one_edited_episode_costs_its_shard_and_what_learns_from_it(tiny_gpt2: str, tmp_path: Path) -> None:
    """Of eight pages one is fetched, cleaned and encoded; the model learns from the new dataset."""
    output = tmp_path / "out"
    with site(Wiki) as server:
        server.titles = {f"EP{i:03}": episode(i) for i in range(1, 9)}
        described = QUICK | {"api": f"{server.address}/w/api.php", "series": ["EP{001..008}"]}
        asked = {"source": f"mediawiki:{json.dumps(described)}", "base_uri": tiny_gpt2, "length": 20}

        def fetched() -> int:
            return sum(query["action"] == "parse" for query in server.queries)

        first, _ = run("episodes_gpt2", output, **asked)
        assert fetched() == 8
        assert made(output / "normalize") == {"cleaned": (8, 0), "encoded": (8, 0)}
        trained = digest(first.checkpoint, "checkpoint")

        server.titles["EP004"] = server.titles["EP004"].replace(
            "wheel", "sail"
        )  # one of those that are trained on
        second, _ = run("episodes_gpt2", output, **asked)
        assert fetched() == 9
        assert made(output / "normalize") == {"cleaned": (1, 7), "encoded": (1, 7)}
        assert digest(second.checkpoint, "checkpoint") != trained
        assert second.checkpoint is not None
        learned = manifest.read(second.checkpoint, "checkpoint").parents["dataset"]
        assert learned == digest(output / "normalize" / "dataset", "dataset")
