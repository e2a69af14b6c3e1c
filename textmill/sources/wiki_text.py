"""From a wiki page, as wikitext or as the HTML that the wiki makes of it, to the text of the wanted sections.

Wikitext is parsed by mwparserfromhell. Knows nothing of the API.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from textmill.sources import BadItem
from textmill.sources.page_text import Block, blocks, chosen

# What wikis put into a page that is not its text: warnings, boxes, navigation, notes, edit links, tables of contents.
NOT_TEXT = (
    ".ambox, .mbox, .ombox, .tmbox, .cmbox, .fmbox, .mbox-small, .metadata, .notice, .noticebox, .messagebox, .cleanup",
    ".hatnote, .dablink, .rellink, .navbox, .navbar, .vertical-navbox, .sidebar, .infobox, .noprint, .nomobile",
    ".mw-editsection, .mw-cite-backlink, .mw-references-wrap, .references, .reflist, sup.reference",
    "#toc, .toc, #siteSub, .printfooter, .catlinks, .thumb, .gallery, figure, table, .mw-empty-elt, .error",
)
TAGS = ("ref", "references", "gallery", "math", "table", "timeline", "imagemap", "score", "templatedata")


def section(found: Iterable[Block], begin: str | int, end: str | int, headings: bool) -> list[Block]:
    """The blocks from the heading `begin` up to the heading `end`, each a name or a number; "" is the page's own end.

    Numbers count the headings of the second level (== so ==) from 1, the way to address a page that names them
    differently. The heading that begins a section is not part of it; the others are, where `headings` is set.
    Raises BadItem when there is no heading `begin`; without a heading `end` the text goes on to the page's end.
    """
    taken: list[Block] = []
    inside, number = begin == "", 0
    for block in found:
        number += block.level == 2
        if inside and _is(block, end, number):
            break
        if not inside:
            inside = _is(block, begin, number)
        elif not block.level or headings:
            taken.append(block)
    if not inside:
        what = f"no heading {begin!r}" if isinstance(begin, str) else f"only {number} headings, not {begin}"
        raise BadItem(f"{what} in it")
    return taken


def _is(block: Block, wanted: str | int, number: int) -> bool:
    if not block.level or wanted == "":
        return False
    if isinstance(wanted, int):
        return block.level == 2 and number == wanted
    return _plain(block.text) == _plain(wanted)


def _plain(text: str) -> str:
    return " ".join(text.replace("_", " ").split()).casefold()


def html_blocks(html: str, select: Iterable[str], remove: Iterable[str]) -> list[Block]:
    """The blocks of a rendered page, without what is not its text."""
    return list(blocks(chosen(html, select, [*NOT_TEXT, *remove])))


def wikitext_blocks(
    wikitext: str, templates: Mapping[str, int | str], prefixes: Iterable[str] = ("File", "Image", "Category")
) -> list[Block]:
    """The blocks of wikitext. Templates go, warnings among them, but those in `templates`: each is replaced by the
    argument named there (a number from 1, or from the end below 0). Links to `prefixes` (files, categories), notes,
    tables and galleries go."""
    import mwparserfromhell
    from mwparserfromhell.nodes import Heading

    code = mwparserfromhell.parse(wikitext)
    _replace_templates(code, {_plain(name): which for name, which in templates.items()})
    _drop_links(code, {prefix.casefold() for prefix in prefixes})
    for tag in code.filter_tags():
        if str(tag.tag).strip().casefold() in TAGS:
            _remove(code, tag)
    found: list[Block] = []
    since: list[Any] = []
    for node in [*code.nodes, None]:
        if node is None or isinstance(node, Heading):
            found += _paragraphs("".join(str(each) for each in since))
            since = []
            if node is not None:
                found.append(Block(_stripped(str(node.title)).strip(), min(node.level, 6)))
        else:
            since.append(node)
    return [block for block in found if block.text]


def _replace_templates(code: Any, kept: Mapping[str, int | str]) -> None:
    for template in reversed(code.filter_templates()):  # the innermost first
        which = kept.get(_plain(str(template.name)))
        value = "" if which is None else _argument(template, which)
        try:
            code.replace(template, value)
        except ValueError:  # it lay in one that is gone
            continue


def _argument(template: Any, which: int | str) -> str:
    if isinstance(which, int) and which < 0:
        unnamed = [each for each in template.params if not each.showkey]
        return str(unnamed[which].value).strip() if -which <= len(unnamed) else ""
    return str(template.get(str(which)).value).strip() if template.has(str(which)) else ""


def _drop_links(code: Any, prefixes: set[str]) -> None:
    for link in code.filter_wikilinks():
        prefix, colon, _ = str(link.title).partition(":")
        languages = re.fullmatch(r"[a-z]{2,3}(-[a-z]+)*", prefix.strip())  # [[de:…]] stands in the margin
        if colon and (prefix.strip().casefold() in prefixes or languages):
            _remove(code, link)


def _remove(code: Any, node: Any) -> None:
    try:
        code.remove(node)
    except ValueError:  # it lay in one that is gone
        return


def _paragraphs(wikitext: str) -> list[Block]:
    text = _stripped(wikitext)
    return [Block(" ".join(part.split())) for part in re.split(r"\n\s*\n", text) if part.strip()]


def _stripped(wikitext: str) -> str:
    import mwparserfromhell

    text = re.sub(r"<br\s*/?>", "\n", wikitext)
    text = re.sub(r"\[\[:", "[[", text)  # [[:Category:X]] is a link in the text
    text = re.sub(r"^[*#:;]+", "\n", text, flags=re.MULTILINE)  # each list item is a paragraph
    text = str(mwparserfromhell.parse(text).strip_code(normalize=True, collapse=False))
    return re.sub(r"__[A-Z]+__", "", text)
