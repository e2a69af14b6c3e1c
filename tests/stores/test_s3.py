"""S3 over boto3 against moto; on a cluster against its MinIO (marked cluster)."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts.store_contract import StoreContract
from tests.stores.moto_s3 import MotoS3, moto_s3
from textmill.errors import InputError
from textmill.stores import Refused, StoreError, open_store, read_bytes
from textmill.stores.s3 import KFP_STORE, endpoint_of


@pytest.fixture(scope="module")
def moto() -> Iterator[MotoS3]:
    with moto_s3() as server:
        yield server


@pytest.fixture
def server(moto: MotoS3, monkeypatch: pytest.MonkeyPatch) -> MotoS3:
    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    return moto


@pytest.fixture
def two_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("textmill.stores.s3.TRIES", 2)


class TestMoto(StoreContract):
    parts_on_condition = False  # moto 5.2 passes over If-Match of CompleteMultipartUpload

    @pytest.fixture
    def uri(self, server: MotoS3) -> str:
        return f"s3://bucket/{uuid.uuid4().hex}"


class TestWithoutPrefix:
    def test_a_whole_bucket_is_a_store(self, server: MotoS3) -> None:
        store = open_store("minio://bucket")
        store.write("whole/a", b"1")
        assert ("whole/a", 1) in list(store.list())


@pytest.mark.cluster
class TestMinIO(StoreContract):
    """TEXTMILL_TEST_S3=s3://bucket/prefix with AWS_* set, as `cluster env` prints them."""

    @pytest.fixture
    def uri(self) -> Iterator[str]:
        if not os.environ.get("AWS_ENDPOINT_URL"):
            pytest.skip("AWS_ENDPOINT_URL names no S3 server")
        import boto3

        name = f"test-{uuid.uuid4().hex}"
        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket=name)
        uri = f"s3://{name}/runs"
        yield uri
        for found, _ in open_store(f"s3://{name}").list():
            open_store(f"s3://{name}").delete(found)
        boto3.client("s3", region_name="us-east-1").delete_bucket(Bucket=name)


def test_a_server_that_fails_once_is_asked_again(server: MotoS3) -> None:
    store = open_store("s3://bucket/again")
    store.write("a", b"1")
    server.fail[:] = [503]
    assert read_bytes(store, "a")[0] == b"1"
    assert not server.fail


def test_a_server_that_goes_on_failing_may_pass(server: MotoS3, two_tries: None) -> None:
    server.fail[:] = [503] * 2
    with pytest.raises(StoreError, match="503"):
        open_store("s3://bucket/again").write("a", b"1")
    assert not server.fail


def test_a_part_that_fails_for_good_leaves_no_upload(
    server: MotoS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, two_tries: None
) -> None:
    monkeypatch.setattr("textmill.stores.s3.PART", 5 << 20)
    path = tmp_path / "large"
    path.write_bytes(b"x" * (6 << 20))
    store = open_store("s3://bucket/parts")
    real = store._client.upload_part  # type: ignore[attr-defined]

    def failing(**arguments: object) -> object:
        server.fail[:] = [500] * 2
        return real(**arguments)

    monkeypatch.setattr(store._client, "upload_part", failing)  # type: ignore[attr-defined]
    with pytest.raises(StoreError):
        store.write("large", path)
    uploads = store._client.list_multipart_uploads(Bucket="bucket")  # type: ignore[attr-defined]
    assert not uploads.get("Uploads")


def test_an_upload_whose_last_answer_was_lost_may_pass(
    server: MotoS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request is sent again, and the upload is no more: nothing is missing, and it can be tried anew."""
    monkeypatch.setattr("textmill.stores.s3.PART", 5 << 20)
    from botocore.exceptions import ClientError

    path = tmp_path / "large"
    path.write_bytes(b"x" * (6 << 20))
    store = open_store("s3://bucket/lost")
    client = store._client  # type: ignore[attr-defined]
    real = client.complete_multipart_upload

    def lost(**arguments: object) -> object:
        real(**arguments)
        said = {"Error": {"Code": "NoSuchUpload"}, "ResponseMetadata": {"HTTPStatusCode": 404}}
        raise ClientError(said, "CompleteMultipartUpload")  # type: ignore[arg-type]

    monkeypatch.setattr(client, "complete_multipart_upload", lost)
    with pytest.raises(StoreError, match="NoSuchUpload of large"):
        store.write("large", path)
    assert dict(store.list()) == {"large": 6 << 20}


def test_a_bucket_that_is_not_there_is_refused(server: MotoS3) -> None:
    with pytest.raises(Refused, match="NoSuchBucket"):
        open_store("s3://no-such-bucket/x").write("a", b"1")


def test_no_credentials_is_one_line_that_says_what_to_set(
    server: MotoS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    with pytest.raises(Refused, match="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        open_store("s3://bucket/x").write("a", b"1")
    monkeypatch.setenv("MINIO_ACCESS_KEY", "kfp")
    monkeypatch.setenv("MINIO_SECRET_KEY", "kfp-secret")
    open_store("s3://bucket/x").write("a", b"1")


def test_nobody_listening_may_pass_and_says_where_without_secrets(
    monkeypatch: pytest.MonkeyPatch, two_tries: None
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://canary-user:canary-password@{address}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "canary-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-secret")
    with pytest.raises(StoreError) as caught:
        open_store("s3://bucket/x").write("a", b"1")
    assert str(caught.value).startswith("cannot reach s3://bucket/x: ")
    assert "canary" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("scheme", "query", "environ", "expected"),
    [
        ("s3", {}, {}, None),
        ("minio", {}, {}, KFP_STORE),
        (
            "minio",
            {},
            {"MINIO_SERVICE_SERVICE_HOST": "10.0.0.9", "MINIO_SERVICE_SERVICE_PORT": "9000"},
            "http://10.0.0.9:9000",
        ),
        ("s3", {"endpoint": "minio.kubeflow:9000", "disableSSL": "true"}, {}, "http://minio.kubeflow:9000"),
        (
            "s3",
            {"endpoint": "store.example:443"},
            {"AWS_ENDPOINT_URL": "http://x"},
            "https://store.example:443",
        ),
        ("minio", {}, {"AWS_ENDPOINT_URL": "http://x", "AWS_ENDPOINT_URL_S3": "http://y"}, "http://y"),
        ("s3", {}, {"S3_ENDPOINT": "store:9000"}, "https://store:9000"),
        ("s3", {}, {"S3_ENDPOINT": "store:9000", "S3_USE_HTTPS": "0"}, "http://store:9000"),
    ],
)
def test_where_an_endpoint_comes_from(
    scheme: str, query: dict[str, str], environ: dict[str, str], expected: str | None
) -> None:
    assert endpoint_of(scheme, query, environ) == expected


def test_a_uri_without_a_bucket_is_refused() -> None:
    with pytest.raises(InputError, match="names no bucket"):
        open_store("s3:///prefix")
