"""Opening an address that a user named, by the standard library: its redirects lead to no place that was not meant.

Who names an address trusts it, also one in a private network. The server behind it may send us on: to web addresses
alone, from a public one never into a private network, and from nowhere to a cloud's metadata service, whose answer
would stand in a corpus. Addresses that strangers wrote are guarded_http.py's. Proxies: the environment's.
"""

from __future__ import annotations

import ipaddress
import socket
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from textmill.errors import InputError
from textmill.sources import without_secrets
from textmill.sources.guarded_http import kind_of_address

METADATA = "link-local or metadata"  # kind_of_address's word


def open_address(request: urllib.request.Request, timeout: float) -> Any:
    """The answer, as urlopen gives it. Raises what urlopen does, and InputError for a redirect that is refused."""
    return urllib.request.build_opener(GuardedRedirects).open(request, timeout=timeout)


class GuardedRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        """Raises InputError where `newurl` may not be followed."""
        target, came_from = urlsplit(newurl), without_secrets(req.full_url)
        if target.scheme not in ("http", "https"):
            raise InputError(
                f"{came_from} redirects to {target.scheme}:…, which is no web address; check the address."
            )
        host, first = target.hostname or "", (req.origin_req_host or "").strip("[]")
        kind = _kind_of_host(host) if host != first else ""
        if kind == METADATA or (kind and not _kind_of_host(first)):
            raise InputError(
                f"{came_from} redirects to {host}, a {kind} address; if that is meant, name that address yourself."
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _kind_of_host(host: str) -> str:
    """What keeps a host from being public; "" for a public one, and for one without an address: it fails by itself."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return ""
    addresses = (ipaddress.ip_address(str(place[0]).partition("%")[0]) for *_, place in found)
    kinds = [kind for address in addresses if (kind := kind_of_address(address))]
    return METADATA if METADATA in kinds else kinds[0] if kinds else ""
