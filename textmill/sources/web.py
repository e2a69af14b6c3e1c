"""One file at an http:// or https:// address, by the standard library alone; proxies come from the environment."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, unquote, urlsplit

from textmill import __version__
from textmill.errors import InputError, MachineError
from textmill.sources import CHUNK, Item, Source, clean_name, spool, without_secrets
from textmill.sources.redirects import open_address

TIMEOUT = 30.0  # seconds without a byte
ATTEMPTS = 3
WAIT = 1.0  # seconds before the second attempt, twice as long before the third


class WebSource(Source):
    """A URL. Its name is the last part of the path; the query is used, but neither shown nor kept."""

    def __init__(self, address: str, *, max_bytes: int, ignore: Path | None = None) -> None:
        super().__init__(address, max_bytes=max_bytes, ignore=ignore)
        self.label = without_secrets(address)
        parts = urlsplit(address)
        if parts.username or parts.password:
            raise InputError(
                f"{self.label}: a user and password in an address end up in logs; use a signed address."
            )
        try:
            host, _ = parts.hostname, parts.port
        except ValueError:
            host = None
        if not host:
            raise InputError(f"{self.label} is not an address of the form https://host/path.")
        last = unquote(parts.path).replace("\\", "/").rstrip("/").rpartition("/")[2]
        self.name = clean_name(host if last in ("", ".", "..") else last)

    def items(self) -> list[Item]:
        stamp = self._stamp()
        return [Item(self.name, self._download, source=self.label, stamp=stamp, named=True, alone=True)]

    def _stamp(self) -> str:
        """The ETag or the date and length, so that an unchanged file is not fetched again; "" when refused."""
        try:
            with _request(self.address, "HEAD") as response:
                headers = response.headers
        except (OSError, http.client.HTTPException):
            return ""  # many servers do not answer HEAD; the GET will say what is wrong
        dated = (
            headers.get("Last-Modified", "") and f"{headers['Last-Modified']} {headers.get('Content-Length')}"
        )
        return headers.get("ETag", "") or dated

    def _download(self) -> IO[bytes]:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with _request(self.address, "GET") as response:
                    return spool(self._chunks(response), self.max_bytes)
            except (OSError, http.client.HTTPException) as error:
                if attempt == ATTEMPTS or not _may_pass(error):
                    raise self._failed(error) from error
                self.tick(f"trying {self.label} again: {_reason(error)}")
                time.sleep(WAIT * 2 ** (attempt - 1))
        raise AssertionError

    def _chunks(self, response: Any) -> Iterator[bytes]:
        length, done = response.headers.get("Content-Length"), 0
        while chunk := response.read(CHUNK):
            done += len(chunk)
            self.tick(f"{done / 1e6:,.1f} MB of {self.name}")
            yield chunk
        if length is not None and done < int(length):  # http.client says nothing when sized reads end early
            raise http.client.IncompleteRead(b"", int(length) - done)

    def _failed(self, error: Exception) -> Exception:
        line = f"cannot fetch {self.label}: {_reason(error)}"
        if isinstance(error, urllib.error.HTTPError) and error.code < 500:
            return InputError(f"{line}; check the address.")
        return MachineError(f"{line}; try again later.")


def _request(address: str, method: str) -> Any:
    headers = {"User-Agent": f"textmill/{__version__}", "Accept-Encoding": "identity"}
    address = quote(address, safe="%/:=&?~#+!$,;'@()*[]")  # spaces and letters beyond ASCII, as browsers do
    request = urllib.request.Request(address.partition("#")[0], headers=headers, method=method)
    return open_address(request, TIMEOUT)


def _may_pass(error: Exception) -> bool:
    return not isinstance(error, urllib.error.HTTPError) or error.code >= 500 or error.code in (408, 429)


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answered {error.code} {error.reason}".rstrip()
    if isinstance(error, http.client.IncompleteRead):
        return (
            f"the connection was cut {error.expected:,} bytes before the end"
            if error.expected
            else "cut short"
        )
    reason = getattr(error, "reason", None) or error
    reason = getattr(reason, "strerror", None) or reason  # without the number
    return str(reason).splitlines()[0] if str(reason) else type(error).__name__
