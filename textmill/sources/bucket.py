"""Object stores through fsspec: s3:// (s3fs), gs:// (gcsfs), and memory:// for tests. An object, a prefix or a glob.

Credentials and endpoints come from where each library looks for them (AWS_*, AWS_ENDPOINT_URL,
GOOGLE_APPLICATION_CREDENTIALS, STORAGE_EMULATOR_HOST), and from FSSPEC_<STORE>_<OPTION>, e.g. FSSPEC_S3_ANON=true.
"""

from __future__ import annotations

import functools
import glob
import logging
import os
from pathlib import Path, PurePosixPath
from typing import IO, Any

from textmill.errors import InputError, MachineError, TextmillError
from textmill.sources import CHUNK, BadItem, Item, Source, clean_name, is_hidden, spool, without_secrets

STAMPS = ("ETag", "etag", "md5Hash", "generation")  # what the stores call a value that changes with the bytes
BLOCK = 8 << 20  # bytes of one ranged read


class BucketSource(Source):
    """`scheme://bucket/key`, `scheme://bucket/prefix/` (all objects below) or `scheme://bucket/plays/*.txt`."""

    def __init__(self, address: str, *, max_bytes: int, ignore: Path | None = None) -> None:
        super().__init__(address, max_bytes=max_bytes, ignore=ignore)
        self.label = without_secrets(address)
        self.scheme, _, self.path = address.partition("://")
        self.scheme, self.path = self.scheme.lower(), self.path.rstrip("/")
        if not self.path.partition("/")[0]:
            raise InputError(f"{address} names no bucket; write {self.scheme}://bucket/key.")

    def items(self) -> list[Item]:
        try:
            self.store = open_store(self.scheme)
            found, root = self._list()
        except Exception as error:
            raise self._failed(self.label, error) from error
        magic = glob.has_magic(self.path)
        alone = not magic and root != self.path
        named = alone or (magic and bool(PurePosixPath(self.path).suffix))
        items = [
            self._item(path, info, root, named, alone)
            for path, info in found.items()
            if info["type"] == "file"
        ]
        return [item for item in items if item.name and not is_hidden(item.name)]

    def _list(self) -> tuple[dict[str, dict[str, Any]], str]:
        """{path: info} of what the address means, and the prefix that names are relative to."""
        if glob.has_magic(self.path):
            fixed = self.path[: next(i for i, letter in enumerate(self.path) if letter in "*?[")]
            found = self.store.glob(self.path, detail=True)
            if not found:
                raise InputError(f"nothing matches {self.label}.")
            return found, fixed.rpartition("/")[0]
        info = self.store.info(self.path)
        if info["type"] == "file":
            return {self.path: info}, self.path.rpartition("/")[0]
        return self.store.find(self.path, detail=True), self.path

    def _item(self, path: str, info: dict[str, Any], root: str, named: bool, alone: bool) -> Item:
        name = clean_name(path.strip("/").removeprefix(root.strip("/")).strip("/"))
        stamp = next((str(info[key]) for key in STAMPS if info.get(key)), "")
        address = f"{self.scheme}://{path.strip('/')}"
        opened = functools.partial(self._download, path, address)
        return Item(name, opened, source=address, stamp=stamp, named=named, alone=alone)

    def _download(self, path: str, address: str) -> IO[bytes]:
        def chunks() -> Any:
            done = 0
            with self.store.open(path, "rb", block_size=BLOCK) as file:
                while chunk := file.read(CHUNK):
                    done += len(chunk)
                    self.tick(f"{done / 1e6:,.1f} MB of {path.rpartition('/')[2]}")
                    yield chunk

        try:
            return spool(chunks(), self.max_bytes)
        except BadItem:
            raise
        except Exception as error:
            raise self._failed(address, error) from error

    def _failed(self, address: str, error: Exception) -> Exception:
        """The stores' libraries raise whatever their HTTP client does; make it one line, split by who can act."""
        if isinstance(error, TextmillError):
            return error
        reason = (str(error) or type(error).__name__).splitlines()[0]
        if isinstance(error, FileNotFoundError):
            return InputError(f"there is no object or prefix {address}.")
        if isinstance(error, PermissionError) or "credential" in reason.lower():
            anonymous = (
                f"FSSPEC_{self.scheme.upper()}_ANON=true" if self.scheme == "s3" else "a public bucket"
            )
            return InputError(
                f"no permission to read {address} ({reason}); give credentials, or use {anonymous}."
            )
        return MachineError(f"cannot read {address}: {reason}.")


def open_store(scheme: str) -> Any:
    """The store of s3, gs, gcs or memory, through fsspec; no listing is taken from a cache."""
    options: dict[str, Any] = {}
    if scheme in ("gs", "gcs") and os.environ.get("STORAGE_EMULATOR_HOST"):
        # Without it gcsfs asks the emulator by gRPC for the bucket's type, and waits a minute for no answer.
        os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        options["token"] = "anon"
    import fsspec

    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # it logs the traceback of what it also raises
    if scheme == "memory":
        return fsspec.filesystem(scheme)
    return fsspec.filesystem(scheme, skip_instance_cache=True, use_listings_cache=False, **options)
