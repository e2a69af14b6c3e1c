"""moto's S3 as a server of this process. It looks at a condition and writes as two acts: so one request at a time."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

BUCKET = "bucket"


class MotoS3:
    """`address`; `fail` is a list of statuses that the next requests get instead of an answer."""

    def __init__(self) -> None:
        from moto.server import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import WSGIRequestHandler, make_server

        class Quiet(WSGIRequestHandler):
            def log(self, *args: Any) -> None:
                pass

        moto = DomainDispatcherApplication(create_backend_app)
        self.fail: list[int] = []
        self.requests: list[str] = []
        self.always = 0

        def application(environ: dict[str, Any], start: Callable[..., Any]) -> Any:
            self.requests.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}")
            status = self.always or (self.fail.pop(0) if self.fail else 0)
            if status:
                start(f"{status} Failing", [("Content-Length", "0")])
                return [b""]
            return moto(environ, start)

        self._server = make_server("127.0.0.1", 0, application, threaded=False, request_handler=Quiet)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.address,
            "AWS_ACCESS_KEY_ID": "canary-key",
            "AWS_SECRET_ACCESS_KEY": "canary-secret",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextlib.contextmanager
def moto_s3() -> Iterator[MotoS3]:
    """A server with an empty bucket "bucket"."""
    import boto3

    server = MotoS3()
    try:
        client = boto3.client(
            "s3",
            endpoint_url=server.address,
            region_name="us-east-1",
            aws_access_key_id="k",
            aws_secret_access_key="s",
        )
        client.create_bucket(Bucket=BUCKET)
        yield server
    finally:
        server.close()
