"""A small Kubeflow Pipelines API server on loopback: experiments, runs whose tasks go on at each look, recurring runs.

Its answers have the shape of a real 2.17.0's (tests/cluster/ asks that one); what it does not know is answered 404.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

BEGAN = datetime(2026, 11, 21, 16, 0, 0, tzinfo=UTC)
API = "/apis/v2beta1"


@dataclass
class State:
    """What the server holds. `ends` is how the next runs end; `down` makes it answer that many requests with 503."""

    ends: str = "SUCCEEDED"
    token: str = ""
    down: int = 0
    experiments: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    recurring: list[dict[str, Any]] = field(default_factory=list)
    looks: dict[str, int] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)

    def run(self, identity: str) -> dict[str, Any]:
        """A run as it stands now: one more of its tasks has ended at each look."""
        run, looks = dict(self.runs[identity]), self.looks.setdefault(identity, 0)
        self.looks[identity] += 1
        tasks = list(run["pipeline_spec"]["root"]["dag"]["tasks"])
        ended = looks >= len(tasks)
        details = [task("root", "SUCCEEDED" if ended else "RUNNING", 0), task("root-driver", "SUCCEEDED", 0)]
        for number, name in enumerate(tasks[: looks + 1]):
            last = ended and number == len(tasks) - 1
            state = self.ends if last else "SUCCEEDED" if number < looks else "RUNNING"
            details += [task(f"{name}-driver", "SUCCEEDED", number), task(name, state, number)]
            details += [task("executor", state, number)]
        run["state"] = self.ends if ended else "RUNNING"
        run["finished_at"] = stamp(600) if ended else stamp(None)
        run["run_details"] = {"task_details": details}
        return run


def task(name: str, state: str, number: int) -> dict[str, Any]:
    ended = state not in ("RUNNING", "PENDING")
    return {
        "run_id": "r",
        "task_id": f"t-{name}-{number}",
        "display_name": name,
        "create_time": stamp(0),
        "start_time": stamp(60 * number),
        "end_time": stamp(60 * number + 45 if ended else None),
        "state": state,
    }


def stamp(seconds: int | None) -> str:
    """A time as KFP writes it; 1970 for one that is not known."""
    when = datetime(1970, 1, 1, tzinfo=UTC) if seconds is None else BEGAN + timedelta(seconds=seconds)
    return when.isoformat().replace("+00:00", "Z")


class Handler(BaseHTTPRequestHandler):
    state: State

    def do_GET(self) -> None:
        if not self._open():
            return
        url = urlsplit(self.path)
        asked, path = parse_qs(url.query), url.path.removeprefix(API)
        if path == "/healthz":
            self._answer({"multi_user": False, "tag_name": "2.17.0"})
        elif path == "/experiments":
            found = list(self.state.experiments.values())
            wanted = json.loads(asked["filter"][0])["predicates"][0] if "filter" in asked else None
            if wanted:
                found = [e for e in found if e["display_name"] == wanted["stringValue"]]
            self._answer({"experiments": found, "total_size": len(found)} if found else {})
        elif path == "/runs":
            runs = sorted(self.state.runs.values(), key=lambda run: run["created_at"], reverse=True)
            start, size = int(asked.get("page_token", ["0"])[0] or 0), int(asked["page_size"][0])
            page = {"runs": runs[start : start + size], "total_size": len(runs)}
            more = {"next_page_token": str(start + size)} if start + size < len(runs) else {}
            self._answer(page | more)
        elif path.startswith("/runs/") and path[6:] in self.state.runs:
            self._answer(self.state.run(path[6:]))
        else:
            self._refuse(404, f"ResourceNotFoundError: {path} not found.")

    def do_POST(self) -> None:
        if not self._open():
            return
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        path = urlsplit(self.path).path.removeprefix(API)
        if path == "/experiments":
            made = {**body, "experiment_id": f"e{len(self.state.experiments)}"}
            self.state.experiments[made["experiment_id"]] = made
        elif path == "/runs":
            number = len(self.state.runs)
            made = {**body, "run_id": f"run-{number}", "created_at": stamp(number), "state": "PENDING"}
            if "pipeline_spec" in made["pipeline_spec"]:  # with a platform's part beside it
                made["pipeline_spec"] = made["pipeline_spec"]["pipeline_spec"]
            self.state.runs[made["run_id"]] = made
        elif path == "/recurringruns":
            made = {**body, "recurring_run_id": f"rec-{len(self.state.recurring)}"}
            self.state.recurring.append(made)
        else:
            self._refuse(404, f"ResourceNotFoundError: {path} not found.")
            return
        self._answer(made)

    def _open(self) -> bool:
        self.state.requests.append(f"{self.command} {urlsplit(self.path).path}")
        if self.state.down:
            self.state.down -= 1
            self._refuse(503, "upstream connect error")
            return False
        if self.state.token and self.headers.get("authorization") != f"Bearer {self.state.token}":
            self._refuse(401, "Unauthenticated: token missing")
            return False
        return True

    def _refuse(self, code: int, message: str) -> None:
        self._answer({"code": 5, "message": message}, code)

    def _answer(self, value: dict[str, Any], code: int = 200) -> None:
        data = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serve(state: State) -> Iterator[str]:
    """Its address."""
    handler = type("OneHandler", (Handler,), {"state": state})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
