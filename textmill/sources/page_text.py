"""From a web page to its text: the main text by trafilatura, or what selectors choose on a site that is known.

Needs lxml (and cssselect, trafilatura), which the extra `crawl` brings. Knows nothing of where pages come from.
"""

from __future__ import annotations

import codecs
import contextlib
import dataclasses
import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from textmill.errors import SettingsError
from textmill.sources import BadItem

BLOCKS = re.compile(
    r"address|article|aside|blockquote|body|caption|center|d[dlt]|details|dialog|div|fieldset|figcaption|figure|footer"
    r"|form|h[1-6]|header|hr|html|legend|li|main|nav|ol|p|pre|section|summary|table|tbody|td|tfoot|th|thead|tr|ul"
).fullmatch
UNSEEN = re.compile(
    r"audio|button|canvas|head|iframe|input|math|noscript|object|script|select|style|svg|template|textarea|title|video"
).fullmatch
HEADINGS = {f"h{level}": level for level in range(1, 7)}
MOST_GLUED = (
    20  # lines of a text in which paragraphs are looked for; what trafilatura falls back to has fewer
)
WESTERN = ("iso-8859-1", "latin1", "latin-1", "ascii", "us-ascii", "windows-1252", "cp1252")  # one on the web


@dataclass(frozen=True)
class Block:
    """A paragraph, a list item, a cell; level 1 to 6 for a heading, else 0. Text without empty ends."""

    text: str
    level: int = 0


@dataclass(frozen=True)
class Page:
    """A page's text and what it says of itself; "" for what it does not say."""

    text: str
    title: str = ""
    author: str = ""
    date: str = ""
    licence: str = ""

    def meta(self) -> dict[str, str]:
        """What is known, for a document's meta."""
        named = {"title": self.title, "author": self.author, "date": self.date, "licence": self.licence}
        return {name: value for name, value in named.items() if value}


def decoded(body: bytes, content_type: str) -> str:
    """A page's characters: the byte order mark, the header and the page itself are believed in this order, but only
    where the bytes fit what they say; then UTF-8, then windows-1252. That any bytes fit latin-1 proves nothing."""
    for mark, name in (
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ):
        if body.startswith(mark):
            return body[len(mark) :].decode(name, "replace")
    named = re.search(r"charset\s*=\s*[\"']?([\w.:-]+)", content_type, re.IGNORECASE)
    inside = re.search(
        rb"<(?:meta|\?xml)[^>]*?(?:charset|encoding)\s*=\s*[\"']?([\w.:-]+)", body[:4096], re.IGNORECASE
    )
    said = [named[1] if named else "", inside[1].decode() if inside else ""]
    for name in [*(each for each in said if each.lower() not in WESTERN), "utf-8"]:
        try:
            return body.decode(name)
        except (LookupError, UnicodeError, ValueError):
            continue
    return body.decode("cp1252", "replace")


def page_of(html: str, url: str, select: Iterable[str] = (), remove: Iterable[str] = ()) -> Page:
    """A page's text and what it says of itself. Without selectors the text is what the page is about, without menus
    and the like, as trafilatura finds it; with them, what they choose, each part once. BadItem when that is nothing."""
    if select or remove:
        text = joined(blocks(chosen(html, select, remove)))
        if not text:
            raise BadItem("the selectors choose no text in it")
        said = _by_trafilatura(html, url, metadata_only=True)
    else:
        said = _by_trafilatura(html, url)
        text = ((said and said.text) or "").strip()
        if not text:
            raise BadItem("no main text found; name its place with `select`")
        text = _in_paragraphs(text, html) + "\n"
    known = (said.title, said.author, said.date, said.license) if said else ()
    page = Page(text, *(" ".join((value or "").split()) for value in known))
    return page if page.licence else dataclasses.replace(page, licence=_licence(html))


def _by_trafilatura(html: str, url: str, metadata_only: bool = False) -> Any:
    import trafilatura
    from trafilatura.metadata import extract_metadata

    try:
        if metadata_only:
            return extract_metadata(html, default_url=url)
        return trafilatura.bare_extraction(html, url=url, with_metadata=True, include_comments=False)
    except Exception as error:  # whatever a page without measure makes of a parser, it is that page's
        raise BadItem(f"trafilatura cannot read it ({type(error).__name__})") from error


def _in_paragraphs(text: str, html: str) -> str:
    """The text, a line of it that is several of the page's blocks being parted where these are. Trafilatura falls back
    to the words of a whole element, one behind the other, where a page is short: `The MillIt turned.`"""
    lines = text.split("\n")
    if len(lines) > MOST_GLUED:
        return text
    with contextlib.suppress(BadItem):
        found = [block.text for block in blocks(chosen(html, (), ()))]
        ends = list(itertools.accumulate(len(_squeezed(block)) for block in found))
        starts = {start: number for number, start in enumerate([0, *ends])}
        whole = _squeezed("".join(found))
        return "\n".join(part for line in lines for part in _parted(line, whole, starts, found))
    return text


def _parted(line: str, whole: str, starts: dict[int, int], found: list[str]) -> list[str]:
    squeezed = _squeezed(line)
    at = whole.find(squeezed) if squeezed else -1
    if at not in starts or at + len(squeezed) not in starts:
        return [line]
    return found[starts[at] : starts[at + len(squeezed)]]


def _squeezed(text: str) -> str:
    return "".join(text.split())


def _licence(html: str) -> str:
    """The address that the page marks as its licence's (rel="license")."""
    with contextlib.suppress(BadItem):
        for element in chosen(html, ["//*[@href and contains(concat(' ', @rel, ' '), ' license ')]"], ()):
            return str(element.get("href"))
    return ""


def joined(found: Iterable[Block]) -> str:
    """Blocks as one text, an empty line between two."""
    text = "\n\n".join(block.text for block in found)
    return text + "\n" if text else ""


def chosen(html: str, select: Iterable[str], remove: Iterable[str]) -> list[Any]:
    """The elements that any of the selectors chooses (none given: the body), in the page's order and none inside
    another, with what `remove` chooses taken out."""
    import lxml.etree
    import lxml.html

    text = re.sub(r"^\s*<\?xml[^>]*\?>", "", html).replace("\0", "")
    if not text.strip():
        raise BadItem("an empty page")
    try:
        root = lxml.html.document_fromstring(text)
    except (lxml.etree.LxmlError, ValueError, AssertionError) as error:
        raise BadItem(f"not HTML ({str(error).splitlines()[0] if str(error) else 'empty'})") from None
    for selector in remove:
        for element in _matches(root, selector):
            if element.getparent() is not None:
                element.drop_tree()
    wanted = {element: None for selector in select or ["body"] for element in _matches(root, selector)}
    inner = {e for e in wanted if any(above in wanted for above in e.iterancestors())}
    return [element for element in root.iter() if element in wanted and element not in inner]


def _matches(root: Any, selector: str) -> list[Any]:
    found = _compiled(selector)(root)
    return [element for element in found if hasattr(element, "iterancestors")]


def check_selectors(name: str, selectors: Iterable[str]) -> None:
    """Raise SettingsError for a selector of the setting `name` that is neither CSS nor XPath."""
    for selector in selectors:
        try:
            _compiled(selector)
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise SettingsError(f"setting {name!r}: {selector!r} is no selector ({reason}).") from None


def _compiled(selector: str) -> Any:
    """CSS, or XPath where it begins with / ./ or ( ."""
    import lxml.etree
    from lxml.cssselect import CSSSelector

    if selector.startswith(("/", "./", "(")):
        return lxml.etree.XPath(selector, smart_strings=False)
    return CSSSelector(selector, translator="html")


def blocks(elements: Iterable[Any]) -> Iterator[Block]:
    """The text of elements as blocks, in order, every character once: also in nested ones."""
    for element in elements:
        yield from _Reader().read(element)


class _Reader:
    """Walks one element; text goes into the innermost block around it."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._done: list[Block] = []
        self._level = 0

    def read(self, top: Any) -> list[Block]:
        stack: list[tuple[Any, bool]] = [(top, True)]  # not recursive: pages nest as deep as they like
        while stack:
            element, entering = stack.pop()
            tag = element.tag if isinstance(element.tag, str) else ""
            seen = bool(tag) and not UNSEEN(tag) and element.get("hidden") is None
            if entering and seen:
                self._open(tag, element)
                stack.append((element, False))
                stack.extend((child, True) for child in reversed(element))
                continue
            if not entering:
                self._close(tag)
            if element is not top and element.tail:
                self._add(element.tail, element.getparent())
        self._end()
        return self._done

    def _open(self, tag: str, element: Any) -> None:
        if BLOCKS(tag):
            self._end()
            self._level = HEADINGS.get(tag, 0)
        elif tag == "br":
            self._parts.append("\n")
        if element.text:
            self._add(element.text, element)

    def _close(self, tag: str) -> None:
        if BLOCKS(tag):
            self._end()

    def _add(self, text: str, inside: Any) -> None:
        as_is = inside is not None and any(e.tag == "pre" for e in (inside, *inside.iterancestors()))
        self._parts.append(text if as_is else re.sub(r"[ \t\r\n\f]+", " ", text))

    def _end(self) -> None:
        text = re.sub(r" *\n *", "\n", re.sub(r"  +", " ", "".join(self._parts))).strip()
        if text:
            self._done.append(Block(text, self._level))
        self._parts, self._level = [], 0
