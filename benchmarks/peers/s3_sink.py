"""As much of S3 as publishing asks, on a free loopback port: it takes objects and throws them away, but for small ones.

    python benchmarks/peers/s3_sink.py      prints its address, serves until its standard input ends

For measuring what an upload costs the side that sends, with as little as can be spent on the other side.
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

KEPT = 1 << 20  # bytes of the largest object that is kept
BUFFER = 1 << 20


class Sink(BaseHTTPRequestHandler):
    """PUT, GET, DELETE, list (always empty) and multipart uploads; conditions on PUT."""

    protocol_version = "HTTP/1.1"
    objects: dict[str, bytes] = {}  # noqa: RUF012
    lock = threading.Lock()

    def do_PUT(self) -> None:
        size = int(self.headers["Content-Length"])
        if self.headers.get("Expect") == "100-continue":
            self.send_response_only(100)
            self.end_headers()
        path, buffer, data = unquote(urlsplit(self.path).path), bytearray(min(BUFFER, max(size, 1))), b""
        left = size
        while left:
            got = self.rfile.readinto1(memoryview(buffer)[: min(len(buffer), left)])
            left -= got
            if size <= KEPT:
                data += buffer[:got]
        with self.lock:
            there = self.objects.get(path)
            wanted, none = self.headers.get("If-Match"), self.headers.get("If-None-Match")
            if (none and there is not None) or (wanted and (there is None or wanted != _tag(there))):
                self.answer(412)
                return
            if size <= KEPT:
                self.objects[path] = data
        self.answer(200, ETag=_tag(data))

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        kind = "CompleteMultipartUploadResult" if "uploadId" in self.path else "InitiateMultipartUploadResult"
        self.answer(200, f"<{kind}><UploadId>1</UploadId><ETag>1</ETag></{kind}>".encode())

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if "list-type" in self.path:
            self.answer(200, b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")
        elif path in self.objects:
            self.answer(200, self.objects[path], ETag=_tag(self.objects[path]))
        else:
            self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")

    def do_DELETE(self) -> None:
        self.answer(204)

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


def _tag(data: bytes) -> str:
    return f'"{hashlib.md5(data).hexdigest()}"'


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
