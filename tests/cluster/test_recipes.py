"""The recipes on a real Kubeflow Pipelines: to the end, their artifacts in the object store, the cache across runs."""

from __future__ import annotations

import json
import os
from collections import Counter
from typing import Any

import pytest

from tests.cluster.kubernetes import MANIFESTS, Kubectl
from tests.cluster.pipelines import Pipelines, Run, argument

QUICK = {"preset": "tiny", "overrides": {"epochs": 1}, "length": 60, "number": 1}
STAGES = ["ingest", "normalize", "train", "generate", "report"]


@pytest.fixture(scope="session")
def bucket() -> Any:
    if not os.environ.get("AWS_ENDPOINT_URL"):
        pytest.skip("no object store: AWS_ENDPOINT_URL is not set")
    boto3 = pytest.importorskip("boto3")
    return boto3.resource("s3", region_name="us-east-1").Bucket(os.environ.get("KFP_BUCKET", "mlpipeline"))


@pytest.fixture(scope="module")
def quickstart(pipelines: Pipelines) -> Run:
    return pipelines.succeeds(pipelines.recipe("quickstart", seed=os.getpid(), **QUICK))


@pytest.fixture(scope="session")
def tiny_gpt2_on_s3(bucket: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Address of a GPT-2 of two layers, as OpenAI lays it out, in the object store."""
    from tests.generating import MERGES
    from textmill.checkpoints import openai_checkpoint
    from textmill.models import gpt2
    from textmill.tokenizers import BPETokenizer

    folder = tmp_path_factory.mktemp("base") / "124M"
    folder.mkdir()
    tokenizer = BPETokenizer.of(MERGES)
    tokenizer.save(folder)
    (folder / "tokenizer.json").unlink()
    config = gpt2.GPT2Config.of(
        vocabulary_size=tokenizer.size, context=32, width=16, num_heads=2, num_layers=2
    )
    openai_checkpoint.write_model(folder, 1, config, gpt2.init(config))
    for path in folder.iterdir():
        bucket.upload_file(str(path), f"textmill-test/base/124M/{path.name}")
    return f"s3://{bucket.name}/textmill-test/base"


def files_of(bucket: Any, run: str, task: str) -> dict[str, str]:
    """Key by path below `<output>/` of what a task of the run left in the store."""
    found = {}
    for entry in bucket.objects.filter(Prefix="v2/artifacts/"):
        parts = entry.key.split("/")
        if run in parts and task in parts:
            found["/".join(parts[parts.index(task) + 2 :])] = entry.key
    return found


def test_quickstart_reaches_its_end(quickstart: Run) -> None:
    for stage in STAGES:
        assert quickstart.task(stage).state == "SUCCEEDED"


def test_what_it_made_lies_in_the_store_whole(quickstart: Run, bucket: Any) -> None:
    left = files_of(bucket, quickstart.id, "train")
    made = json.loads(bucket.Object(left["checkpoint/manifest.json"]).get()["Body"].read())
    sizes = {path: bucket.Object(key).content_length for path, key in left.items()}
    for name, about in made["files"].items():
        assert sizes[f"checkpoint/{name}"] == about["size"], name
    texts = files_of(bucket, quickstart.id, "generate")
    assert bucket.Object(texts["texts/texts.txt"]).get()["Body"].read().strip()
    report = files_of(bucket, quickstart.id, "report")
    assert b"textmill report</title>" in bucket.Object(report["report"]).get()["Body"].read()


def test_the_dashboard_gets_figures_a_report_and_a_tensorboard(
    quickstart: Run, pipelines: Pipelines, bucket: Any
) -> None:
    """The types and addresses that it goes by."""
    made = pipelines.outputs(quickstart.id, "train") | pipelines.outputs(quickstart.id, "report")
    types = {name: about["type"] for name, about in made.items()}
    assert types["checkpoint"] == "system.Model"
    assert types["metrics"] == "system.Metrics"
    assert types["report"] == "system.HTML"
    assert types["mlpipeline_ui_metadata"] == "system.Artifact"
    root = f"minio://{bucket.name}/"
    assert all(about["uri"].startswith(root) for about in made.values())
    link = bucket.Object(made["mlpipeline_ui_metadata"]["uri"].removeprefix(root)).get()["Body"].read()
    [board] = json.loads(link)["outputs"]
    assert board == {"type": "tensorboard", "source": made["checkpoint"]["uri"] + "/tensorboard"}
    events = bucket.objects.filter(Prefix=board["source"].removeprefix(root))
    assert [e for e in events if "tfevents" in e.key]


def test_the_metadata_says_what_was_made_and_of_what(
    quickstart: Run, pipelines: Pipelines, bucket: Any
) -> None:
    """As KFP keeps it, and the dashboard shows it."""
    made = {task: pipelines.outputs(quickstart.id, task) for task in STAGES}
    known = {
        (task, name): pipelines.recorded(about["uri"])
        for task, outputs in made.items()
        for name, about in outputs.items()
        if name != "executor-logs"  # KFP's own; it numbers them
    }
    for (task, name), found in known.items():
        assert (found.type, found.uri) == (made[task][name]["type"], made[task][name]["uri"]), (task, name)
    types = {name: found.type for (task, name), found in known.items() if task == "report"}
    assert types == {"report": "system.HTML", "card": "system.Markdown", "metrics": "system.Metrics"}
    checkpoint = known["train", "checkpoint"].metadata
    left = files_of(bucket, quickstart.id, "train")
    manifest = json.loads(bucket.Object(left["checkpoint/manifest.json"]).get()["Body"].read())
    assert checkpoint["sha256"] == manifest["digest"]
    assert checkpoint["dataset_sha256"] == known["normalize", "dataset"].metadata["sha256"]
    assert checkpoint["step"] > 0
    assert {"format", "tokens_seen", "valid_loss", "tokenizer_sha256", "parent_uri"} <= set(checkpoint)
    for task in ("ingest", "normalize", "train", "generate", "report"):
        figures = {k: v for k, v in known[task, "metrics"].metadata.items() if k != "display_name"}
        assert figures, task
        assert all(isinstance(value, (int, float, str)) for value in figures.values())
    assert 0 < known["train", "metrics"].metadata["valid_loss"] < 10


def test_a_second_run_takes_all_of_it_from_the_cache(quickstart: Run, pipelines: Pipelines) -> None:
    again = pipelines.succeeds(pipelines.recipe("quickstart", seed=os.getpid(), **QUICK))
    assert pipelines.pods(again.id) == [], "no component ran"


def test_another_seed_trains_anew_on_the_cached_dataset(quickstart: Run, pipelines: Pipelines) -> None:
    again = pipelines.succeeds(pipelines.recipe("quickstart", seed=os.getpid() + 1, **QUICK))
    assert pipelines.worked(again.id) == ["generate", "report", "train"]


def test_as_textmills_own_account_under_pod_security_restricted(pipelines: Pipelines, ours: Kubectl) -> None:
    """The least rights that manifests/base gives, in a namespace that admits no careless pod."""
    ours("apply", "--server-side", "-k", str(MANIFESTS / "base"), "-n", pipelines.namespace)
    label = "pod-security.kubernetes.io/enforce"
    ours("label", "namespace", pipelines.namespace, f"{label}=restricted", "--overwrite")
    try:
        run = pipelines.recipe("quickstart", cache=False, account="textmill-pipeline", **QUICK)
        pipelines.succeeds(run)
        assert {p["spec"]["serviceAccountName"] for p in pipelines.pods(run)} == {"textmill-pipeline"}
    finally:
        ours("label", "namespace", pipelines.namespace, f"{label}-")


def test_the_word_lstm_writes_a_script(pipelines: Pipelines) -> None:
    run = pipelines.recipe("script_word_lstm", source="sample:play", **{**QUICK, "length": 20})
    assert pipelines.succeeds(run).task("generate").state == "SUCCEEDED"


def test_play_char_gru(pipelines: Pipelines) -> None:
    run = pipelines.recipe("play_char_gru", preset="tiny", overrides={"epochs": 1}, length=40)
    assert pipelines.succeeds(run).task("generate").state == "SUCCEEDED"


def test_a_script_model_is_trained_and_another_pipeline_writes_with_it(pipelines: Pipelines) -> None:
    trained = pipelines.recipe("script_train", preset="test", overrides={"epochs": 1})
    pipelines.succeeds(trained)
    checkpoint = pipelines.outputs(trained, "train")["checkpoint"]["uri"]
    run = pipelines.recipe("script_generate", checkpoint=checkpoint, length=20)
    assert pipelines.succeeds(run).task("generate").state == "SUCCEEDED"


SMALL_GPT2 = {"preset": "tiny", "overrides": {"validate_every": 1}, "steps": 2, "number": 2}


def test_episodes_gpt2(pipelines: Pipelines, tiny_gpt2_on_s3: str) -> None:
    asked = {**SMALL_GPT2, "length": 12, "base_uri": tiny_gpt2_on_s3}
    run = pipelines.recipe("episodes_gpt2", **asked)
    assert pipelines.succeeds(run).task("generate").state == "SUCCEEDED"


def test_a_large_corpus_is_cleaned_by_several_pods(pipelines: Pipelines) -> None:
    asked = {**SMALL_GPT2, "length": 12, "groups": 2, "vocabulary_size": 300}
    run = pipelines.recipe("large_corpus_gpt2", **asked)
    pipelines.succeeds(run)
    worked = pipelines.worked(run)
    assert worked.count("normalize-shards") == 2
    assert [worked.count(stage) for stage in ("normalize-merge", "train", "generate", "report")] == [1] * 4


def posts(author: str, word: str) -> bytes:
    lines = (f"Day {i}: {word} and {word} again, {author} said, {i * 7}.\n" for i in range(30))
    return "".join(lines).encode()


def test_of_two_authors_the_one_who_wrote_more_is_learned_from_anew(
    pipelines: Pipelines, bucket: Any, tiny_gpt2_on_s3: str
) -> None:
    """A chain for each file; in the second run all of the other one's chain comes from the cache."""
    folder = f"textmill-test/posts-{os.getpid()}"
    bucket.put_object(Key=f"{folder}/ann.txt", Body=posts("ann", "bread"))
    bucket.put_object(Key=f"{folder}/bob.txt", Body=posts("bob", "stars"))
    asked = {**SMALL_GPT2, "most_characters": 60, "base_uri": tiny_gpt2_on_s3}
    asked |= {"source": f"s3://{bucket.name}/{folder}/", "seed": os.getpid()}
    chain = ["normalize", "train", "generate", "report"]
    run = pipelines.recipe("tweets_gpt2", **asked)
    pipelines.succeeds(run, 1800)
    worked = Counter(pipelines.worked(run))
    assert {task: worked[task] for task in chain} == dict.fromkeys(chain, 2)

    bucket.put_object(
        Key=f"{folder}/bob.txt", Body=posts("bob", "stars") + b"The stars went home, bob said.\n"
    )
    run = pipelines.recipe("tweets_gpt2", **asked)
    pipelines.succeeds(run, 1800)
    worked = Counter(pipelines.worked(run))
    assert {task: worked[task] for task in chain} == dict.fromkeys(chain, 1)
    [pod] = pipelines.pods(run, "normalize")
    given = json.loads(argument(pod, "--executor_input"))["inputs"]["artifacts"]["corpus"]["artifacts"]
    assert [corpus["uri"].rpartition("/")[2] for corpus in given] == ["bob.txt"]
