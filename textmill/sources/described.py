"""Sources that need more than an address: `crawl:`, `mediawiki:`, `feeds:` and their like take a description.

    SCHEME:site.yaml                  a YAML file here, or at any address that ingest reads (s3://…/site.yaml, https://…)
    SCHEME:https://host/path          where an address is enough
    SCHEME:{start: [https://…], …}    the YAML or JSON itself, on one line or many: a pipeline's parameter

A description is checked as the stages' settings are: an unknown key, a wrong type or a value out of range is one line.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import yaml

from textmill.errors import InputError, SettingsError
from textmill.settings import Settings, setting
from textmill.sources import BadItem, Item, Source, open_source, without_secrets
from textmill.sources.guarded_http import Guard, Limits, clean_url, user_agent

MOST = 4 << 20  # bytes of a description

Described = TypeVar("Described", bound=Settings)


@dataclass(frozen=True)
class PoliteSettings(Settings):
    """What every description may say about how servers are asked."""

    contact: str = setting("", "Who answers for this: an address or URL in the User-Agent, beside our name.")
    delay: float = setting(1.0, "Seconds between two requests to one host.", minimum=0, maximum=3600)
    timeout: float = setting(30.0, "Seconds for one whole answer.", minimum=0.01, maximum=3600)
    retries: int = setting(3, "How often a request is tried again.", minimum=0, maximum=20)
    retry_wait: float = setting(
        2.0, "Seconds before the first retry; it doubles each time.", minimum=0, maximum=3600
    )
    max_wait: float = setting(
        300.0, "The longest Retry-After that is waited for, in seconds.", minimum=0, maximum=86400
    )
    max_redirects: int = setting(5, "The most redirects of one address.", minimum=0, maximum=50)
    max_page_bytes: int = setting(10 << 20, "The most bytes of one page, unpacked.", minimum=1)
    allow: list = setting(
        [], "Hosts that may have private or loopback addresses; a metadata address must be named itself."
    )

    TEXTS: ClassVar[tuple[str, ...]] = ("allow",)  # the lists that hold texts

    def check(self) -> None:
        for name in self.TEXTS:
            for value in getattr(self, name):
                if not isinstance(value, str) or not value.strip():
                    raise SettingsError(f"setting {name!r} lists {value!r}, which is not a text; quote it.")

    def guard(self) -> Guard:
        return Guard(self.allow)

    def limits(self, max_bytes: int) -> Limits:
        """The bounds of one request; `max_bytes` is what the stage allows for any file."""
        return Limits(
            timeout=self.timeout,
            max_bytes=min(self.max_page_bytes, max_bytes),
            max_redirects=self.max_redirects,
            attempts=self.retries + 1,
            wait=self.retry_wait,
            max_wait=self.max_wait,
            delay=self.delay,
        )

    def agent(self) -> str:
        return user_agent(self.contact)

    def digest(self, *leave_out: str) -> str:
        """Changes with what these settings make of the same page: all but how servers are asked, and `leave_out`."""
        asked = {*PoliteSettings.kinds(), *leave_out}
        values = {name: value for name, value in self.as_dict().items() if name not in asked}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def check_address(name: str, url: str) -> None:
    """Raise SettingsError when the setting `name` holds something else than a web address."""
    try:
        clean_url(url)
    except BadItem as error:
        raise SettingsError(f"setting {name!r} holds {without_secrets(url)!r}: {error.reason}.") from None


def read_description(
    cls: type[Described],
    address: str,
    *,
    url: Callable[[str], dict[str, Any]],
    lines: str = "",
) -> tuple[Described, str]:
    """(settings, label) of `SCHEME:…`.

    url: makes settings of a plain http address. lines: the setting that a file ending in .txt lists, one value a line
    (empty lines and those that begin with # do not count). Raises SettingsError, or InputError for a file not there.
    """
    scheme, _, rest = address.partition(":")
    rest = rest.strip()
    if not rest:
        raise InputError(f"{scheme}: says nothing; write {scheme}:FILE.yaml or {scheme}:{{…}}.")
    if "\n" in rest or rest[0] in "{[":
        return cls.from_dict(_parsed(rest, f"the text after {scheme}:"), f"{scheme}:{{…}}"), f"{scheme}:{{…}}"
    if re.search(r"\.(ya?ml|json)$", rest) or (lines and rest.endswith(".txt")):
        text, label = _read(rest)
        where = f"{scheme}:{label}"
        if rest.endswith(".txt"):
            listed = [line.strip() for line in text.splitlines()]
            return cls.from_dict({lines: [x for x in listed if x and x[0] != "#"]}, where), where
        return cls.from_dict(_parsed(text, label), where), where
    if re.match(r"https?://", rest, re.IGNORECASE):
        where = without_secrets(address)
        return cls.from_dict(url(rest), where), where
    wanted = f"{scheme}:FILE.yaml, {scheme}:https://… or {scheme}:{{key: value, …}}"
    raise InputError(f"{address!r} is none of {wanted}" + (f", {scheme}:FILE.txt." if lines else "."))


def _parsed(text: str, where: str) -> dict[str, Any]:
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        place = f", line {line + 1}" if line is not None else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise SettingsError(f"{where} is not valid YAML{place}: {problem}.") from None
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise SettingsError(f"{where} must hold settings, `key: value`, not {type(value).__name__}.")
    return value


def _read(place: str) -> tuple[str, str]:
    """The text of one file at any address that is not described itself, and its label."""
    opened, items = _listed(place)
    if len(items) != 1 or not items[0].alone:
        raise InputError(f"{without_secrets(place)} is not one file; name the description itself.")
    return _text(items[0], opened.label), opened.label


def read_lines(place: str) -> list[str]:
    """The lines of a file at any address, or of all files of a folder or glob there, by name. Empty lines and comments,
    `# …` with a space, do not count."""
    opened, items = _listed(place)
    lines: list[str] = []
    for item in sorted(items, key=lambda item: item.name):
        lines += _text(item, opened.label if item.alone else item.name).splitlines()
    lines = [line.strip() for line in lines]
    return [line for line in lines if line and line != "#" and not line.startswith("# ")]


def _listed(place: str) -> tuple[Source, list[Item]]:
    if re.match(r"[a-z]+:(?!//)", place):
        raise InputError(f"{place!r} is described itself; name a file.")
    opened = open_source(place, max_bytes=MOST)
    return opened, opened.items()


def _text(item: Item, label: str) -> str:
    try:
        if item.problem:
            raise BadItem(item.problem)
        with item.open() as file:
            data = file.read(MOST + 1)
        if len(data) > MOST:
            raise BadItem(f"larger than {MOST:,} bytes")
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise SettingsError(f"{label} is not UTF-8 text.") from None
    except (BadItem, OSError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise SettingsError(f"{label} cannot be read: {reason}.") from None
