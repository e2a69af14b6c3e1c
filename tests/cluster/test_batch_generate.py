"""batch_generate on a real Kubeflow Pipelines, by `textmill submit`: groups written by pods of their own, and put
together to the texts that one generate writes here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.cluster.pipelines import ROOT, Pipelines
from tests.cluster.test_recipes import bucket, files_of
from tests.generating import gpt2_generator, save, transformer
from textmill.generate import GenerateSettings, generate

__all__ = ["bucket"]

ASKED: dict[str, Any] = {"number": 2, "length": 12, "seed": 3, "temperature": 0.9}
PROMPTS = "the\nand the\n\nan\n"


def test_groups_make_the_texts_of_one_generate(pipelines: Pipelines, bucket: Any, tmp_path: Path) -> None:
    generator = gpt2_generator()
    checkpoint = save(tmp_path / "model", generator, transformer(generator.tokenizer)[1])
    (tmp_path / "prompts.txt").write_text(PROMPTS)
    generate(checkpoint, tmp_path / "once", GenerateSettings.of(**ASKED), prompts=tmp_path / "prompts.txt")
    place = f"textmill-test/batch-{os.getpid()}"
    for path in [*checkpoint.rglob("*"), tmp_path / "prompts.txt"]:
        if path.is_file():
            bucket.upload_file(str(path), f"{place}/{path.relative_to(tmp_path)}")

    experiment = place.replace("/", "-")
    asked = {
        **ASKED,
        "checkpoint": f"minio://{bucket.name}/{place}/{checkpoint.relative_to(tmp_path)}",
        "source": f"s3://{bucket.name}/{place}/prompts.txt",
        "groups": 3,
        "image": pipelines.image,
    }
    parameters = [word for name, value in asked.items() for word in ("--param", f"{name}={value}")]
    command = [str(Path(sys.executable).parent / "textmill"), "submit", "batch_generate"]
    command += ["--experiment", experiment]
    done = subprocess.run([*command, *parameters], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    [run] = pipelines.of_experiment(experiment)
    assert pipelines.worked(run).count("generate-group") == 3
    left = files_of(bucket, run, "merge-texts")
    for name in ("texts.jsonl", "texts.txt"):
        merged = bucket.Object(left[f"texts/{name}"]).get()["Body"].read()
        assert merged == (tmp_path / "once" / name).read_bytes(), name
