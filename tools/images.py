"""Build and push the images; write down what they are (images/digests.json, images/sbom/).

usage: images.py build [--base IMAGE] [--table FILE] [VARIANT…]
       images.py push --registry REGISTRY [--table FILE] [VARIANT…]

An image that was only built is referred to by a tag made of its content's id, one that was pushed by the digest that
the registry gave: KFP's cache goes by the text of the reference, so the same text must never mean other bytes. Needs
docker; the builder without BuildKit will do. DOCKER_BUILD_OPTIONS holds further options of `docker build`.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "images" / "digests.json"
VARIANTS = ("cpu", "gpu", "serve")
REGISTRY = "localhost:5000"  # of images that were not pushed anywhere
SBOM_INSIDE = "/opt/textmill/sbom.cdx.json"


class ImagesError(Exception):
    """docker is not there or did not do it."""


def name_of(variant: str) -> str:
    return f"textmill-python-{variant}"  # kfp.local warns of names without "python"


def build(variants: Sequence[str], base: str, table: Path, sboms: Path) -> None:
    """Build the images, write their bills of materials to `sboms` and their references to `table`."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        version = tomllib.load(file)["project"]["version"]
    for variant in variants:
        name = name_of(variant)
        say(f"building {name}")
        options = ["--build-arg", f"BASE={base}", "--build-arg", f"VERSION={version}"]
        options += [
            "--build-arg",
            f"REVISION={revision()}",
            *shlex.split(os.environ.get("DOCKER_BUILD_OPTIONS", "")),
        ]
        dockerfile = str(ROOT / "images" / f"Dockerfile.{variant}")
        docker("build", "--file", dockerfile, "--tag", f"{name}:new", *options, str(ROOT), shown=True)
        [about] = json.loads(docker("image", "inspect", f"{name}:new"))
        tag = about["Id"].removeprefix("sha256:")[:12]
        docker("tag", f"{name}:new", f"{REGISTRY}/{name}:{tag}")
        docker("rmi", f"{name}:new")
        record(table, name, {"registry": REGISTRY, "tag": tag, "id": about["Id"], "bytes": about["Size"]})
        bill = docker(
            "run", "--rm", "--network", "none", "--entrypoint", "cat", f"{REGISTRY}/{name}:{tag}", SBOM_INSIDE
        )
        sboms.mkdir(parents=True, exist_ok=True)
        write(sboms / f"{name}.cdx.json", bill)
        say(
            f"{reference(table, variant)}: {about['Size'] / 1e6:,.0f} MB, "
            f"{len(json.loads(bill)['components'])} packages"
        )


def push(variants: Sequence[str], registry: str, table: Path) -> None:
    """Push what `table` says was built; from then on it is referred to by the registry's digest."""
    for variant in variants:
        name = name_of(variant)
        entry = read(table).get(name, {})
        if not entry.get("id"):
            raise ImagesError(f"{name} was not built yet; run: make images")
        target = f"{registry}/{name}:{entry['tag']}"
        docker("tag", entry["id"], target)
        docker("push", target, shown=True)
        [about] = json.loads(docker("image", "inspect", entry["id"]))
        pushed = [d for d in about["RepoDigests"] if d.startswith(f"{registry}/{name}@")]
        if not pushed:
            raise ImagesError(f"docker tells no digest of {target}; is {registry} a registry?")
        record(table, name, {**entry, "registry": registry, "digest": pushed[0].partition("@")[2]})
        say(f"pushed {reference(table, variant)}")


def read(table: Path) -> dict[str, dict[str, Any]]:
    """The entries of the table by image name."""
    if not table.exists():
        return {}
    images: dict[str, dict[str, Any]] = json.loads(table.read_text(encoding="utf-8"))["images"]
    return images


def record(table: Path, name: str, entry: dict[str, Any]) -> None:
    table.parent.mkdir(parents=True, exist_ok=True)
    images = {**read(table), name: entry}
    write(table, json.dumps({"images": dict(sorted(images.items()))}, indent=2) + "\n")


def reference(table: Path, variant: str) -> str:
    """What a pod names the image by."""
    sys.path.insert(0, str(ROOT))
    from components import pinned_image

    return pinned_image(variant, table)


def write(path: Path, text: str) -> None:
    beside = path.with_name(path.name + ".new")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def revision() -> str:
    """The commit, with `-changed` where files differ from it; "unknown" outside git."""
    describe = ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=-changed"]
    try:
        found = subprocess.run(describe, cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "unknown"
    return found.stdout.strip() or "unknown"


def docker(*arguments: str, shown: bool = False) -> str:
    """Run docker and return what it printed; `shown` lets it speak to the person instead."""
    try:
        done = subprocess.run(
            ["docker", *arguments], stdout=None if shown else subprocess.PIPE, text=True, check=True
        )
    except FileNotFoundError:
        raise ImagesError("docker is not installed here; the images are built with it.") from None
    except subprocess.CalledProcessError as error:
        raise ImagesError(f"docker {arguments[0]} failed (exit code {error.returncode}).") from None
    return done.stdout or ""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("verb", choices=("build", "push"))
    parser.add_argument("variants", nargs="*", metavar="VARIANT", help=", ".join(VARIANTS))
    parser.add_argument("--base", default="python:3.11-slim-bookworm")
    parser.add_argument("--registry", default="")
    parser.add_argument("--table", type=Path, default=TABLE)
    given = parser.parse_intermixed_args(arguments)
    if unknown := set(given.variants) - set(VARIANTS):
        parser.error(f"no such image: {', '.join(sorted(unknown))}; there are {', '.join(VARIANTS)}")
    variants = given.variants or VARIANTS
    try:
        if given.verb == "build":
            build(variants, given.base, given.table, given.table.parent / "sbom")
        elif not given.registry:
            parser.error("say where to: --registry registry.example/team (make images-push REGISTRY=…)")
        else:
            push(variants, given.registry.rstrip("/"), given.table)
    except ImagesError as error:
        say(f"images: {error}")
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
