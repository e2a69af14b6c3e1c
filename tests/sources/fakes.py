"""Loopback stand-ins for servers: plain HTTP, and as much of S3 and Google Cloud Storage as reading takes.

`files` is what they hold ({path: bytes}), `requests` what they were asked ("GET /path").
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


class Fake(BaseHTTPRequestHandler):
    """Answers GET and HEAD for the server's `files`; subclasses add the dialect."""

    protocol_version = "HTTP/1.1"
    server: Any

    def do_GET(self) -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        parts = urlsplit(self.path)
        self.answer(unquote(parts.path), {k: v[0] for k, v in parse_qs(parts.query).items()})

    do_HEAD = do_GET  # noqa: N815

    def answer(self, path: str, query: dict[str, str]) -> None:
        self.send_file(self.server.files.get(path))

    def send_file(self, data: bytes | None, **headers: str) -> None:
        if data is None:
            self.send(404, b"no such file")
            return
        tag = hashlib.md5(data).hexdigest()
        status, whole = 200, len(data)
        if wanted := self.headers.get("Range"):
            first, last = wanted.removeprefix("bytes=").split("-")
            end = min(int(last) + 1 if last else whole, whole)
            headers["Content-Range"] = f"bytes {first}-{end - 1}/{whole}"
            status, data = 206, data[int(first) : end]
        self.send(status, data, ETag=f'"{tag}"', **headers)

    def send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


class FakeS3(Fake):
    """ListObjectsV2, HeadObject, GetObject; path-style addresses; every bucket exists."""

    def answer(self, path: str, query: dict[str, str]) -> None:
        if "list-type" not in query:
            self.send_file(self.server.files.get(path), Last_Modified="Fri, 21 Nov 2025 06:00:00 GMT")
            return
        bucket, prefix, delimiter = path.strip("/"), query.get("prefix", ""), query.get("delimiter", "")
        objects, folders = listed(self.server.files, f"/{bucket}/", prefix, delimiter)
        rows = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>2025-11-21T06:00:00.000Z</LastModified>"
            f"<ETag>&quot;{hashlib.md5(data).hexdigest()}&quot;</ETag><Size>{len(data)}</Size></Contents>"
            for key, data in objects
        )
        rows += "".join(
            f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>" for name in folders
        )
        body = (
            f"<ListBucketResult><Name>{bucket}</Name><KeyCount>{len(objects) + len(folders)}</KeyCount>"
            f"<IsTruncated>false</IsTruncated>{rows}</ListBucketResult>"
        )
        self.send(200, body.encode(), Content_Type="application/xml")


class FakeGCS(Fake):
    """The JSON API's list, get and download."""

    def answer(self, path: str, query: dict[str, str]) -> None:
        path = path.removeprefix("/download").removeprefix("/storage/v1/b/")
        bucket, _, key = path.partition("/o/")
        if key:
            data = self.server.files.get(f"/{bucket}/{key}")
            if data is None or query.get("alt") == "media":
                self.send_file(data)
            else:
                self.send_json(resource(bucket, key, data))
        elif path.endswith("/o"):
            bucket = path.removesuffix("/o")
            objects, folders = listed(
                self.server.files, f"/{bucket}/", query.get("prefix", ""), query.get("delimiter", "")
            )
            self.send_json({"items": [resource(bucket, *pair) for pair in objects], "prefixes": folders})
        else:
            self.send_json({"kind": "storage#bucket", "name": bucket})

    def send_json(self, value: Any) -> None:
        self.send(200, json.dumps(value).encode(), Content_Type="application/json")


def resource(bucket: str, key: str, data: bytes) -> dict[str, str]:
    digest = hashlib.md5(data).hexdigest()
    return {"kind": "storage#object", "bucket": bucket, "name": key, "size": str(len(data)), "etag": digest}


def listed(
    files: dict[str, bytes], bucket: str, prefix: str, delimiter: str
) -> tuple[list[tuple[str, bytes]], list[str]]:
    """The objects below a prefix, and with a delimiter the "folders" among them, as both stores list them."""
    objects, folders = [], set()
    for path, data in sorted(files.items()):
        key = path.removeprefix(bucket)
        if path.startswith(bucket) and key.startswith(prefix):
            rest = key[len(prefix) :]
            if delimiter and delimiter in rest:
                folders.add(prefix + rest.partition(delimiter)[0] + delimiter)
            else:
                objects.append((key, data))
    return objects, sorted(folders)


@contextlib.contextmanager
def serving(handler: type[Fake]) -> Iterator[Any]:
    """A server on a free loopback port; `.address` is http://host:port."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.files, server.requests = {}, []
    server.handle_error = lambda *_: None  # clients that hang up are part of the tests
    server.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
