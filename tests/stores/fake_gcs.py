"""A loopback Google Cloud Storage: as much of the JSON API as our store asks, generations and conditions enforced.

Objects: multipart and resumable uploads, metadata, downloads with Range and generation, deletes, lists in pages of two.
`server.fail` is a list of statuses that the next requests get instead of an answer.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

PAGE = 2


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            raise AssertionError("uploads say how long they are")
        self.server.requests.append(f"{self.command} {self.path}")
        parts = urlsplit(self.path)
        if re.fullmatch(r"/storage/v1/b/[^/]+", parts.path):  # the library looks at the bucket when it likes
            self.send_json({"name": parts.path.rpartition("/")[2]})
            return
        if self.server.fail:
            self.fail(self.server.fail.pop(0))
            return
        query = {k: v[0] for k, v in parse_qs(parts.query).items()}
        with self.server.lock:
            self.route(parts.path, query, body)

    do_GET = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815

    def route(self, path: str, query: dict[str, str], body: bytes) -> None:
        found = re.fullmatch(r"(/upload|/download)?/storage/v1/b/([^/]+)/o(?:/(.+))?", path)
        if not found:
            self.fail(404)
            return
        kind, bucket, name = found[1], found[2], unquote(found[3] or "")
        if bucket not in self.server.buckets:
            self.fail(404, "The specified bucket does not exist.")
        elif kind == "/upload":
            self.upload(query, body)
        elif kind == "/download" or (name and query.get("alt") == "media"):
            self.download(name, query)
        elif not name:
            self.listing(query)
        elif self.command == "DELETE":
            if self.server.objects.pop(name, None) is None:
                self.fail(404, f"No such object: {name}")
            else:
                self.send(204, b"")
        elif name in self.server.objects:
            self.send_json(self.resource(name))
        else:
            self.fail(404, f"No such object: {name}")

    def upload(self, query: dict[str, str], body: bytes) -> None:
        if query["uploadType"] == "multipart":
            boundary = re.search(r'boundary="?([^";]+)"?', self.headers["Content-Type"])
            assert boundary
            parts = body.split(b"--" + boundary[1].encode())
            head, data = (part.split(b"\r\n\r\n", 1)[1] for part in parts[1:3])
            self.store(json.loads(head)["name"], data.removesuffix(b"\r\n"), query)
        elif self.command == "POST":  # a resumable upload begins
            token = str(next(self.server.count))
            name = json.loads(body)["name"]
            self.server.uploads[token] = (name, bytearray(), query)
            where = f"{self.server.address}{urlsplit(self.path).path}?uploadType=resumable&upload_id={token}"
            self.send(200, b"", Location=where)
        else:
            name, data, first = self.server.uploads[query["upload_id"]]
            span = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", self.headers["Content-Range"])
            assert span
            assert int(span[1]) == len(data), "parts come one after the other"
            data += body
            if span[3] == str(len(data)):
                self.store(name, bytes(data), first)
            else:
                self.send(308, b"", Range=f"bytes=0-{len(data) - 1}")

    def store(self, name: str, data: bytes, query: dict[str, str]) -> None:
        wanted = query.get("ifGenerationMatch")
        there = self.server.objects.get(name, (b"", 0))[1]
        if wanted is not None and int(wanted) != there:
            self.fail(412, "At least one of the pre-conditions you specified did not hold.")
            return
        self.server.objects[name] = (data, next(self.server.count))
        self.send_json(self.resource(name))

    def download(self, name: str, query: dict[str, str]) -> None:
        data, generation = self.server.objects.get(name, (b"", 0))
        if not generation or query.get("generation", str(generation)) != str(generation):
            self.fail(404, f"No such object: {name}")
            return
        span = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
        if span:
            piece = data[int(span[1]) : int(span[2]) + 1]
            self.send(206, piece, Content_Range=f"bytes {span[1]}-{span[2]}/{len(data)}")
        else:
            self.send(200, data)

    def listing(self, query: dict[str, str]) -> None:
        names = sorted(n for n in self.server.objects if n.startswith(query.get("prefix", "")))
        start = int(query.get("pageToken", 0))
        page: dict[str, Any] = {"items": [self.resource(n) for n in names[start : start + PAGE]]}
        if start + PAGE < len(names):
            page["nextPageToken"] = str(start + PAGE)
        self.send_json(page)

    def resource(self, name: str) -> dict[str, str]:
        data, generation = self.server.objects[name]
        return {"name": name, "size": str(len(data)), "generation": str(generation)}

    def send_json(self, value: Any) -> None:
        self.send(200, json.dumps(value).encode(), Content_Type="application/json")

    def fail(self, status: int, message: str = "") -> None:
        body = json.dumps({"error": {"code": status, "message": message}}).encode()
        self.send(status, body, Content_Type="application/json")

    def send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@contextlib.contextmanager
def serving() -> Iterator[Any]:
    """A server with the bucket "bucket" on a free loopback port; `.address` is http://host:port."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.buckets, server.objects, server.uploads = {"bucket"}, {}, {}
    server.requests, server.fail, server.count, server.lock = [], [], itertools.count(1), threading.Lock()
    server.handle_error = lambda *_: None
    server.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
