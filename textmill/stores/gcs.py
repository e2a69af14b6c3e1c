"""Google Cloud Storage: gs://bucket/prefix. Compare-and-swap is if_generation_match.

Credentials are what the library finds: GOOGLE_APPLICATION_CREDENTIALS, a service account's workload identity, gcloud's.
STORAGE_EMULATOR_HOST names a stand-in, asked without credentials.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from textmill.errors import InputError
from textmill.stores import (
    CHUNK,
    PART,
    Changed,
    Found,
    Missing,
    Refused,
    Store,
    StoreError,
    label_of,
    safe_name,
    without_credentials,
)

TIMEOUT = (10, 60)  # seconds to connect, and without a byte
PATIENCE = 60.0  # seconds in which a request is tried again, with back-off


class GCSStore(Store):
    """One client, used by one thread at a time."""

    def __init__(self, uri: str) -> None:
        from google.cloud import storage
        from google.cloud.storage.retry import DEFAULT_RETRY

        self.label = label_of(uri)
        parts = urlsplit(uri)
        bucket, self._prefix = parts.netloc.rpartition("@")[2], parts.path.strip("/")
        if not bucket:
            raise InputError(f"{self.label} names no bucket; write gs://bucket/prefix.")
        self._retry = DEFAULT_RETRY.with_timeout(PATIENCE)
        self._options: dict[str, Any] = {"timeout": TIMEOUT, "retry": self._retry}
        with self._errors("reading credentials"):
            if os.environ.get("STORAGE_EMULATOR_HOST"):
                from google.auth.credentials import AnonymousCredentials

                client = storage.Client(project="none", credentials=AnonymousCredentials())
            else:
                client = storage.Client(project=os.environ.get("GOOGLE_CLOUD_PROJECT", "none"))
        self._client, self._bucket = client, client.bucket(bucket)

    def read(self, name: str) -> Found:
        with self._errors(name):
            blob = self._blob(name)
            blob.reload(**self._options)
            # The generation is kept: what is read in several requests is one version.
            return Found(int(blob.size or 0), str(blob.generation), self._chunks(blob, name))

    def _chunks(self, blob: Any, name: str) -> Iterator[bytes]:
        pinned = self._bucket.blob(blob.name, generation=blob.generation)
        with self._errors(name):
            for start in range(0, int(blob.size or 0), PART):
                end = min(start + PART, int(blob.size)) - 1
                data = pinned.download_as_bytes(
                    start=start, end=end, checksum=None, raw_download=True, **self._options
                )
                for at in range(0, len(data), CHUNK):
                    yield data[at : at + CHUNK]

    def write(self, name: str, data: bytes | Path) -> None:
        self._put(name, data)

    def _put(self, name: str, data: bytes | Path, **condition: Any) -> str:
        """Returns the generation. `condition` is upload_from_file's if_generation_match."""
        blob = self._blob(name)
        with self._errors(name):
            if isinstance(data, bytes):
                blob.upload_from_string(
                    data, "application/octet-stream", checksum=None, **condition, **self._options
                )
            else:
                size = data.stat().st_size
                if size > PART:
                    blob.chunk_size = PART
                with open(data, "rb") as file:
                    blob.upload_from_file(file, size=size, checksum=None, **condition, **self._options)
            return str(blob.generation)

    def list(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        start = f"{self._prefix}/" if self._prefix else ""
        with self._errors(prefix):
            for blob in self._client.list_blobs(self._bucket, prefix=start + prefix, **self._options):
                yield blob.name[len(start) :], int(blob.size or 0)

    def delete(self, name: str) -> None:
        with contextlib.suppress(Missing), self._errors(name):
            self._blob(name).delete(**self._options)

    def write_if_unchanged(self, name: str, data: bytes, version: str) -> str:
        return self._put(name, data, if_generation_match=int(version or 0))

    def write_file_if_unchanged(self, name: str, path: Path, version: str) -> None:
        self._put(name, path, if_generation_match=int(version or 0))

    def _blob(self, name: str) -> Any:
        safe_name(name)
        return self._bucket.blob(f"{self._prefix}/{name}" if self._prefix else name)

    @contextlib.contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        """The library's errors as ours; their causes are cut off, since a request's text may hold a token."""
        import requests
        from google.api_core import exceptions
        from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError

        try:
            yield
        except exceptions.NotFound as error:
            if "bucket" in str(error.message).lower() and "/o/" not in str(error):
                raise Refused(f"{self.label}: there is no such bucket.") from None
            raise Missing(name) from None
        except exceptions.PreconditionFailed:
            raise Changed(name) from None
        except (exceptions.Forbidden, exceptions.Unauthorized) as error:
            raise Refused(
                f"{self.label} refuses: {type(error).__name__}; check the bucket, and the service account's roles."
            ) from None
        except DefaultCredentialsError:
            raise Refused(
                f"no credentials for {self.label}: set GOOGLE_APPLICATION_CREDENTIALS, or give the pod's service "
                "account a workload identity."
            ) from None
        except exceptions.GoogleAPICallError as error:
            raise StoreError(f"{self.label}: the store says {error.code} of {name}") from None
        except (
            exceptions.GoogleAPIError,
            GoogleAuthError,
            requests.RequestException,
            OSError,
            ValueError,
        ) as error:
            reason = without_credentials(str(error)) or type(error).__name__
            raise StoreError(f"cannot reach {self.label}: {reason}") from None
