"""S3 and what speaks its language (MinIO, SeaweedFS, Ceph): s3://bucket/prefix, and minio://bucket/prefix as KFP says.

Compare-and-swap is If-Match and If-None-Match on PutObject. Everything comes from the environment, first found first:

    credentials   what boto3 knows (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, a service account's web
                  identity), else MINIO_ACCESS_KEY and MINIO_SECRET_KEY
    endpoint      the URI's query as KFP's pipeline roots have it (?endpoint=host:port&disableSSL=true&region=…),
                  AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, S3_ENDPOINT with S3_USE_HTTPS, MINIO_SERVICE_SERVICE_HOST and
                  _PORT; for minio:// at last KFP's own store, seaweedfs.kubeflow:9000
    region        the URI's query, AWS_REGION, AWS_DEFAULT_REGION, else us-east-1

With an endpoint, addresses are path style. Parts of large files go up one after the other on one connection, unsigned
and without further checksums: the reader has the file's SHA-256, and two busy cores have better things to do.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

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

MOST_PARTS = 10_000  # of one upload; S3's own bound
CONNECT, READ = 10, 60  # seconds
TRIES = 4  # of each request, with back-off; botocore knows which errors pass
KFP_STORE = "http://seaweedfs.kubeflow:9000"
GONE = ("NoSuchKey", "NotFound", "404")
CONFLICTS = ("PreconditionFailed", "ConditionalRequestConflict", "OperationAborted", "412", "409")
NOT_ALLOWED = (
    "NoSuchBucket",
    "InvalidBucketName",
    "AccessDenied",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
)


class S3Store(Store):
    """One client, used by one thread at a time."""

    def __init__(self, uri: str) -> None:
        import boto3
        import botocore.session
        from botocore.config import Config

        for name in ("botocore", "boto3", "urllib3"):  # at DEBUG they would write headers and keys
            if logging.getLogger(name).level == logging.NOTSET:
                logging.getLogger(name).setLevel(logging.WARNING)
        self.label = label_of(uri)
        parts = urlsplit(uri)
        self._bucket, self._prefix = parts.netloc.rpartition("@")[2], parts.path.strip("/")
        if not self._bucket:
            raise InputError(f"{self.label} names no bucket; write {parts.scheme}://bucket/prefix.")
        query = dict(parse_qsl(parts.query))
        endpoint = endpoint_of(parts.scheme.lower(), query, os.environ)
        region = query.get("region") or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        session = boto3.session.Session(botocore_session=botocore.session.get_session())
        keys: dict[str, str | None] = {}
        with self._errors("reading credentials"):
            if session.get_credentials() is None and os.environ.get("MINIO_ACCESS_KEY"):
                keys = {
                    "aws_access_key_id": os.environ["MINIO_ACCESS_KEY"],
                    "aws_secret_access_key": os.environ.get("MINIO_SECRET_KEY"),
                }
            self._client: Any = session.client(
                "s3",
                endpoint_url=endpoint,
                region_name=region or "us-east-1",
                config=Config(
                    connect_timeout=CONNECT,
                    read_timeout=READ,
                    retries={"total_max_attempts": TRIES, "mode": "standard"},
                    s3={"addressing_style": "path" if endpoint else "auto", "payload_signing_enabled": False},
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                ),
                **keys,
            )

    def read(self, name: str) -> Found:
        with self._errors(name):
            answer = self._client.get_object(**self._at(name))
        return Found(answer["ContentLength"], answer["ETag"], self._chunks(answer["Body"], name))

    def _chunks(self, body: Any, name: str) -> Iterator[bytes]:
        with contextlib.closing(body), self._errors(name):
            yield from body.iter_chunks(CHUNK)

    def write(self, name: str, data: bytes | Path) -> None:
        with self._errors(name):
            self._put(name, data, {})

    def _put(self, name: str, data: bytes | Path, condition: Mapping[str, str]) -> str:
        """Returns the ETag."""
        if isinstance(data, Path) and data.stat().st_size > PART:
            return self._put_parts(name, data, condition)
        body = data.read_bytes() if isinstance(data, Path) else data
        return self._client.put_object(**self._at(name), Body=body, **condition)["ETag"]

    def _put_parts(self, name: str, path: Path, condition: Mapping[str, str]) -> str:
        part = max(PART, math.ceil(path.stat().st_size / MOST_PARTS))
        upload = self._client.create_multipart_upload(**self._at(name))["UploadId"]
        try:
            with open(path, "rb", buffering=0) as file:
                done: list[dict[str, Any]] = []
                while data := _read(file, part):
                    number = len(done) + 1
                    answer = self._client.upload_part(
                        **self._at(name), UploadId=upload, PartNumber=number, Body=data
                    )
                    done.append({"PartNumber": number, "ETag": answer["ETag"]})
            return self._client.complete_multipart_upload(
                **self._at(name), UploadId=upload, MultipartUpload={"Parts": done}, **condition
            )["ETag"]
        except BaseException:
            with contextlib.suppress(Exception):  # what stays is the bucket's lifecycle rule's to remove
                self._client.abort_multipart_upload(**self._at(name), UploadId=upload)
            raise

    def list(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        start = f"{self._prefix}/" if self._prefix else ""
        with self._errors(prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=start + prefix
            )
            for page in pages:
                for found in page.get("Contents", ()):
                    yield found["Key"][len(start) :], found["Size"]

    def delete(self, name: str) -> None:
        with self._errors(name), contextlib.suppress(Missing):
            self._client.delete_object(**self._at(name))

    def version(self, name: str) -> str:
        try:
            with self._errors(name):
                return self._client.head_object(**self._at(name))["ETag"]
        except Missing:
            return ""

    def write_if_unchanged(self, name: str, data: bytes, version: str) -> str:
        return self._swap(name, data, version)

    def write_file_if_unchanged(self, name: str, path: Path, version: str) -> None:
        self._swap(name, path, version)

    def _swap(self, name: str, data: bytes | Path, version: str) -> str:
        condition = {"IfMatch": version} if version else {"IfNoneMatch": "*"}
        try:
            with self._errors(name, swapping=True):
                return self._put(name, data, condition)
        except Missing:  # there was a version, and the object is gone
            raise Changed(name) from None

    def _at(self, name: str) -> dict[str, str]:
        safe_name(name)
        return {"Bucket": self._bucket, "Key": f"{self._prefix}/{name}" if self._prefix else name}

    @contextlib.contextmanager
    def _errors(self, name: str, swapping: bool = False) -> Iterator[None]:
        """botocore's errors as ours. Their causes are cut off: a request's text may hold a key."""
        from botocore.exceptions import (
            BotoCoreError,
            ClientError,
            NoCredentialsError,
            PartialCredentialsError,
        )

        try:
            yield
        except ClientError as error:
            raise self._said(error.response, name, swapping) from None
        except (NoCredentialsError, PartialCredentialsError):
            raise Refused(
                f"no credentials for {self.label}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, from a secret."
            ) from None
        except (BotoCoreError, OSError, ValueError) as error:
            reason = without_credentials(str(error)) or type(error).__name__
            raise StoreError(f"cannot reach {self.label}: {reason}") from None

    def _said(self, response: Mapping[str, Any], name: str, swapping: bool) -> Exception:
        said = response.get("Error", {})
        code, status = (
            str(said.get("Code", "")),
            response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0),
        )
        if swapping and (code in CONFLICTS or status in (409, 412)):
            return Changed(name)
        if code in NOT_ALLOWED or status in (401, 403):
            return Refused(
                f"{self.label} refuses: {code or status}; check the bucket, and the credentials in the environment."
            )
        # an upload that is unknown was ended by a request whose answer was lost: the object may well be there
        if code in GONE or (status == 404 and code != "NoSuchUpload"):
            return Missing(name)
        return StoreError(f"{self.label}: the store says {code or status} of {name}")


def endpoint_of(scheme: str, query: Mapping[str, str], environ: Mapping[str, str]) -> str | None:
    """Where the store listens; None for AWS."""
    lower = {key.lower(): value for key, value in query.items()}
    if lower.get("endpoint"):
        return _with_scheme(lower["endpoint"], lower.get("disablessl", "").lower() not in ("true", "1"))
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        if environ.get(name):
            return _with_scheme(environ[name], True)
    if environ.get("S3_ENDPOINT"):
        secure = environ.get("S3_USE_HTTPS", "0" if scheme == "minio" else "1") not in ("0", "false")
        return _with_scheme(environ["S3_ENDPOINT"], secure)
    if scheme != "minio":
        return None
    host, port = environ.get("MINIO_SERVICE_SERVICE_HOST"), environ.get("MINIO_SERVICE_SERVICE_PORT")
    return f"http://{host}:{port}" if host and port else KFP_STORE


def _with_scheme(address: str, secure: bool) -> str:
    return address if "://" in address else f"{'https' if secure else 'http'}://{address}"


def _read(file: Any, size: int) -> bytes:
    """`size` bytes, fewer only at the end."""
    data = file.read(size)
    while len(data) < size and (more := file.read(size - len(data))):
        data += more
    return data
