"""The locks of the images: hashed, free of addresses, of the versions that the tests ran with."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REQUIREMENTS = Path(__file__).parents[1] / "requirements"
IMAGES = Path(__file__).parents[1] / "images"
LOCKS = sorted(path.stem for path in REQUIREMENTS.glob("*.lock"))
OF_IMAGES = ["component", "cpu", "gpu", "serve"]


def versions(lock: str) -> dict[str, set[str]]:
    """Versions by package; the development lock has several of some, for other Pythons."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(
        r"^([\w.-]+)(?:\[\w+\])?==(\S+)", (REQUIREMENTS / f"{lock}.lock").read_text(), re.M
    ):
        found.setdefault(name, set()).add(version)
    return found


@pytest.mark.parametrize("lock", LOCKS)
def test_every_package_has_hashes_and_none_an_address(lock: str) -> None:
    text = (REQUIREMENTS / f"{lock}.lock").read_text()
    assert "://" not in text
    entries = re.split(r"^(?=\S)", text, flags=re.M)[1:]
    assert entries
    assert [e.split()[0] for e in entries if "--hash=sha256:" not in e] == []


@pytest.mark.parametrize("lock", OF_IMAGES)
def test_images_have_the_versions_that_were_tested(lock: str) -> None:
    tested, image = versions("dev"), versions(lock)
    different = {
        name: (image[name], tested[name])
        for name in image
        if name in tested and not image[name] <= tested[name]
    }
    assert not different, "make lock"


@pytest.mark.parametrize("lock", ["cpu", "serve"])
def test_cpu_images_have_tensorflows_cpu_build_alone(lock: str) -> None:
    """Both builds share a folder: together they overwrite each other."""
    found = versions(lock)
    assert "tensorflow" not in found
    assert found["tensorflow-cpu"] == versions("dev")["tensorflow"]
    assert not [name for name in found if name.startswith("nvidia")]


def test_the_gpu_image_has_cuda_from_packages() -> None:
    found = versions("gpu")
    assert {"jax-cuda12-plugin", "nvidia-cudnn-cu12", "tensorflow"} <= set(found)
    assert "tensorflow-cpu" not in found


@pytest.mark.parametrize("variant", ["cpu", "gpu", "serve"])
def test_the_dockerfiles_run_as_a_number_and_install_only_locks(variant: str) -> None:
    text = (IMAGES / f"Dockerfile.{variant}").read_text()
    assert re.search(r"^USER 65532:65532$", text, re.M)
    assert "chmod 1777 /tmp" in text
    assert text.index("FROM ${BASE}\n") < text.index("USER"), "the last stage's"
    assert f"requirements/{variant}.lock" in text
    assert "pip install" not in text
    assert "--mount" not in text, "the classic builder has none"
    last = text.rpartition("FROM ${BASE}\n")[2]
    assert set(re.findall(r"^COPY --from=(\w+)", last, re.M)) == {"packages", "own"}
