"""The recipes of S4 and S5, executed from their compiled YAML against a Mastodon and a wiki of ours, from the queries
file and the description to the texts; killed while they collect, and gone on with."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.contracts.collected_contract import QUICK
from tests.contracts.posts_contract import FIRST
from tests.pipelines.conftest import deadly
from tests.sources.sites import Wiki, site
from tests.sources.social_fakes import FakeMastodon, Numbered, account, service
from textmill import manifest
from textmill.checkpoints.checkpoint import read_details
from textmill.corpora.corpus import read_corpus
from textmill.datasets.dataset import read_dataset
from textmill.errors import InputError, MachineError
from textmill.local.running import RunResult, run_pipeline
from textmill.pipeline_file import read_pipeline
from textmill.postprocess import count_characters

ROOT = Path(__file__).parents[2]
COMPILED = ROOT / "pipelines" / "compiled"
TINY = {"preset": "tiny", "overrides": {"validate_every": 1}, "steps": 2}


def run(name: str, output: Path, **parameters: Any) -> RunResult:
    return run_pipeline(COMPILED / f"{name}.yaml", parameters, output, out=io.StringIO())


def written(texts: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (texts.parent / "texts.jsonl").read_text("utf-8").splitlines()]


def shards(output: Path) -> dict[str, bytes]:
    folder = output / "ingest" / "corpus" / "shards"
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# ---------------------------------------------------------------------- S4


class People(FakeMastodon):
    """Accounts that post what is their own: `server.people`, {name: posts}."""

    def newest_first(self, query: dict[str, str], without: tuple[str, ...], *bounds: str) -> list[Numbered]:
        identity = self.path.split("?")[0].split("/")[4]
        people = self.server.people.items()
        self.server.posts = next(posts for name, posts in people if account(name)["id"] == identity)
        return super().newest_first(query, without, *bounds)


def by(author: str, word: str) -> list[Numbered]:
    return [(FIRST + i, f"Day {i}: {word} and {word} again, {author} said, {i * 7}.", "") for i in range(30)]


def test_tweets_gpt2(tiny_gpt2: str, tmp_path: Path) -> None:
    """A chain for each query of the file: trained on its posts alone, and so many posts of it, none too long."""
    (tmp_path / "queries.txt").write_text("@ann\n@bob\n@nobody\n@shy\n")
    with service(deadly(People), []) as server:
        server.people = {"ann": by("ann", "bread"), "bob": by("bob", "stars"), "shy": [(FIRST, "Hello.", "")]}
        server.accounts, server.page = {"ann", "bob", "shy"}, 20
        described = QUICK | {"queries_file": str(tmp_path / "queries.txt"), "server": server.address}
        asked = {
            **TINY,
            "source": f"mastodon:{json.dumps(described)}",
            "base_uri": tiny_gpt2,
            "number": 4,
            "most_characters": 60,
            "seed": 3,
        }

        def pages() -> list[Any]:
            return [(path, query) for path, query, _ in server.asked if path.endswith("/statuses")]

        server.fatal = lambda path, query: len(pages()) == 4  # in the middle of bob's
        with pytest.raises(MachineError, match="ingest was killed"):
            run("tweets_gpt2", tmp_path / "one", **asked)
        server.fatal = None
        answered = pages()[:-1]  # it was killed at the last one
        result = run("tweets_gpt2", tmp_path / "one", **asked)
        asked_now = pages()[len(answered) + 1 :]
        assert not [page for page in asked_now if page in answered and "max_id" in page[1]]
        check_chains(result)
        said = {each["item"]: each["reason"] for each in read_corpus(tmp_path / "one/ingest/corpus").skipped}
        assert "knows no @nobody" in said["@nobody"]
        assert "@shy" not in result.items, "six characters are too little to learn from"

        # The next run, elsewhere: bob posts once more.
        del server.asked[:]
        server.people["bob"].append((FIRST + 99, "Day 99: stars and stars again.", ""))
        earlier = str(tmp_path / "*" / "ingest" / "corpus")
        again = run("tweets_gpt2", tmp_path / "two", **asked, earlier=earlier, items="@bob")
    assert all("since_id" in query for _, query in pages())
    assert len(pages()) == 4, "what is newer of each account, and that bob has no more of it"
    assert set(again.items) == {"@bob"}
    assert len(shards(tmp_path / "two").items() - shards(tmp_path / "one").items()) == 1
    assert result.items["@bob"].checkpoint
    assert again.items["@bob"].checkpoint
    learned = [
        manifest.read(run.items["@bob"].checkpoint, "checkpoint").parents["dataset"]  # type: ignore[arg-type]
        for run in (result, again)
    ]
    assert learned[0] != learned[1]


def check_chains(result: RunResult) -> None:
    assert sorted(t.name for t in result.tasks if not t.item) == ["ingest", "list-items", "pull"]
    assert set(result.items) == {"@ann", "@bob"}
    digests = set()
    for item, made in result.items.items():
        assert [t.name for t in made.tasks] == ["normalize", "train", "generate", "report"]
        assert made.text is not None
        assert made.checkpoint is not None
        assert made.report is not None
        assert f"<title>{item} · textmill report</title>" in made.report.read_text()
        texts = written(made.text)
        assert len(texts) == 4
        assert all(0 < count_characters(text["text"]) <= 60 for text in texts), texts
        assert all(text["text"] == text["text"].strip() for text in texts)
        learned = read_dataset(made.checkpoint.parents[1] / "normalize" / "dataset")
        assert {name.partition("#")[0] for name, _ in learned.texts("train")} == {item}
        details = read_details(made.checkpoint)
        assert details["step"] == 2
        assert details["config"]["width"] == 16, "the base's"
        digests.add(details["digest"])
    assert len(digests) == 2


# ---------------------------------------------------------------------- S5

EPISODE = """{{{{Incomplete}}}}
{name} is an episode.
== Synopsis ==
A short summary that nobody reads.
== Plot ==
Maud slept on the ship of {name}, and then Ivo ran to the bell. This section is incomplete.
They had the {number} ships and the sea, and the sea had them. "Don't ring it!" said Maud.
=== Later ===
Ivo rang the bell of {name} all the same, and the ships came home.
== Major events ==
* Nobody drowns.
"""


def described(address: str) -> str:
    """The description that docs/collecting.md gives for such a wiki, with its five series, asked of our server."""
    text = (ROOT / "docs" / "collecting.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"\n\n((?:    [^\n]+\n)+)", text[text.index("An episode wiki") :])[:1]
    value = yaml.safe_load(example)
    assert len(value["series"]) == 5
    return f"mediawiki:{json.dumps(value | QUICK | {'api': f'{address}/w/api.php'})}"


def test_episodes_gpt2(tiny_gpt2: str, tmp_path: Path) -> None:
    """From a wiki's numbered series, the third of its headings up to "Major events", to new episodes."""
    with site(deadly(Wiki)) as server:
        server.titles = {f"EP{i:03}": EPISODE.format(name=f"EP{i:03}", number=i) for i in range(1, 8)}
        server.titles["AG001"] = EPISODE.format(name="AG001", number=1)
        asked = {
            **TINY,
            "source": described(server.address),
            "base_uri": tiny_gpt2,
            "number": 3,
            "length": 80,
            "prompt": "ivo, and Maud",
        }

        def fetched() -> list[str]:
            return [query["oldid"] for query in server.queries if query["action"] == "parse"]

        server.fatal = lambda path, query: query["action"] == "parse" and len(fetched()) == 3
        with pytest.raises(MachineError, match="ingest was killed"):
            run("episodes_gpt2", tmp_path / "one", **asked)
        server.fatal = None
        result = run("episodes_gpt2", tmp_path / "one", **asked)
        assert len(fetched()) == len(set(fetched())) == 8
        check_episodes(tmp_path / "one", result)

        # The next run, elsewhere: one new episode, and one that was edited.
        del server.queries[:]
        server.titles["EP008"] = EPISODE.format(name="EP008", number=8)
        server.titles["AG001"] = server.titles["AG001"].replace("bell", "horn")
        earlier = str(tmp_path / "one" / "ingest" / "corpus")
        with pytest.raises(InputError, match=r"^serve: pods cannot fetch the checkpoint from /"):
            run("episodes_gpt2", tmp_path / "two", **asked, earlier=earlier, serve_name="episodes")
    assert len(fetched()) == 2
    assert len(shards(tmp_path / "two").items() - shards(tmp_path / "one").items()) == 2
    assert len(shards(tmp_path / "two")) == 9


def check_episodes(output: Path, result: RunResult) -> None:
    assert sorted(t.name for t in result.tasks) == [
        "generate",
        "ingest",
        "normalize",
        "pull",
        "report",
        "train",
    ]
    corpus = read_corpus(output / "ingest" / "corpus")
    texts = {document.id: document.text for document in corpus.documents()}
    assert sorted(texts) == ["AG001", *(f"EP{i:03}" for i in range(1, 8))]
    assert texts["EP005"].startswith("Maud slept on the ship of EP005, and then Ivo ran to the bell.\n\n")
    assert texts["EP005"].endswith("Ivo rang the bell of EP005 all the same, and the ships came home.\n")
    assert '"Don\'t ring it!"' in texts["EP005"]
    assert result.text is not None
    assert result.report is not None
    assert result.checkpoint is not None
    for text in written(result.text):
        assert text["text"].startswith("Ivo, and Maud"), "recapitalized, its punctuation joined again"
        assert text["tokens"] <= 80
    settings = manifest.read(result.text.parent, "texts").settings
    assert (settings["whole_sentences"], settings["recapitalize"]) == (True, True)


def test_the_model_is_served_in_the_end_if_a_service_is_named() -> None:
    spec, platform = yaml.safe_load_all((COMPILED / "episodes_gpt2.yaml").read_text(encoding="utf-8"))
    tasks = spec["root"]["dag"]["tasks"]
    [condition] = [task for task in tasks.values() if "triggerPolicy" in task]
    assert condition["triggerPolicy"]["condition"].endswith("--serve_name'] != ''")
    assert {"train", "report"} <= set(condition["dependentTasks"]), "what was written could be looked at"
    inside = spec["components"][condition["componentRef"]["name"]]["dag"]["tasks"]
    assert list(inside) == ["serve"]
    assert read_pipeline("episodes_gpt2").tasks[-2:] == ["report", "serve"], "no condition-1 is shown"
    assert inside["serve"].get("cachingOptions", {}).get("enableCache") is not True
    executor = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-serve"]
    [token] = [s for s in executor["secretAsEnv"] if s["secretName"] == "textmill-serve"]
    assert token["optional"] is True
    assert token["keyToEnv"] == [{"secretKey": "token", "envVar": "TEXTMILL_SERVE_TOKEN"}]
    image = spec["root"]["inputDefinitions"]["parameters"]["serve_image"]["defaultValue"]
    assert "/textmill-python-serve" in image


# ---------------------------------------------------------------------- keys


@pytest.mark.parametrize("name", ["tweets_gpt2", "episodes_gpt2"])
def test_ingest_gets_the_services_keys_where_there_are_some_and_is_never_taken_from_the_cache(
    name: str,
) -> None:
    spec, platform = yaml.safe_load_all((COMPILED / f"{name}.yaml").read_text(encoding="utf-8"))
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    keys = {
        label: {
            pair["envVar"] for secret in executor.get("secretAsEnv", [])
            if secret["secretName"] == "textmill-collect" and secret["optional"]
            for pair in secret["keyToEnv"]
        }
        for label, executor in executors.items()
    }  # fmt: skip
    assert {label for label, names in keys.items() if names} == {"exec-ingest"}
    documented = (ROOT / "docs" / "dumps_and_posts.md").read_text(encoding="utf-8")
    assert keys["exec-ingest"] == set(re.findall(r"`([A-Z]+_[A-Z_]+)`", documented))
    assert spec["root"]["dag"]["tasks"]["ingest"].get("cachingOptions", {}).get("enableCache") is not True
