"""The page at `/`: one form that works without a script. GET /?prompt=…&seed=… is a text written and set on the server,
and so a link to it; with its script the page sends the form to /v1/completions and shows the text while it is written.

Knows how a text is set for reading (typesetting.py) and the fields of the form; the files lie in page/.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import urlencode

from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import Response

from textmill.serving import parameters
from textmill.serving.answers import Problem
from textmill.serving.parameters import BadRequest
from textmill.serving.service import Asked, Service, Written
from textmill.writing.generator import Generator
from textmill.writing.typesetting import Block, typeset

PAGE = Path(__file__).parent / "page"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
POST_CHARACTERS = 280
LONGEST_TITLE = 80  # characters of an episode's first line
UNITS = {
    "char": ("characters", "letter"),
    "word": ("words", "word"),
    "bpe": ("pieces of words", "piece of a word"),
}


@dataclass(frozen=True)
class Manner:
    """How freely a text is drawn."""

    name: str
    temperature: float
    top_p: float


MANNERS = {
    "even": Manner("Even: close to what it read", 0.7, 0.95),
    "free": Manner("Free: as it learned", 1.0, 1.0),
    "careful": Manner("Careful: the likeliest, and it repeats itself", 0.4, 0.9),
    "wild": Manner("Wild", 1.3, 1.0),
}
FIELDS = ("prompt", "preset", "temperature", "length", "seed")


class Page:
    """The page of one service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._template = Template((PAGE / "index.html").read_text(encoding="utf-8"))

    async def home(self, request: Request) -> Response:
        """GET /, also with the form's fields."""
        fields = {name: request.query_params[name] for name in FIELDS if name in request.query_params}
        written, problem = None, None
        if "prompt" in fields or "seed" in fields:
            try:
                asked = self._asked(fields)
                ordered = await self._service.write(asked, request)
                [written] = await ordered.whole()
                fields["seed"] = str(asked.settings.seed)
            except Problem as error:
                problem = error
            except BadRequest as error:
                problem = Problem(400, str(error))
        headers = {"content-security-policy": POLICY, **(problem.headers if problem else {})}
        body = self._render(fields, written, problem)
        return Response(body, problem.status if problem else 200, headers, "text/html")

    def _asked(self, fields: Mapping[str, str]) -> Asked:
        """The form's fields as what is asked for. Raises BadRequest."""
        own = self._service.settings
        manner = MANNERS.get(fields.get("preset", ""), MANNERS["even"])
        values: dict[str, Any] = {"temperature": manner.temperature, "top_p": manner.top_p}
        for field, name, kind in (
            ("temperature", "temperature", float),
            ("length", "max_tokens", int),
            ("seed", "seed", int),
        ):
            if fields.get(field, "").strip():
                try:
                    values[name] = kind(fields[field])
                except ValueError:
                    raise BadRequest(f"{field} is {fields[field][:40]!r}, which is not a number.") from None
        if own.page_kind == "posts":
            values["most_characters"] = POST_CHARACTERS
        if own.page_kind == "episodes":
            values["whole_sentences"] = True
        checked = parameters.check(values, {"properties": parameters.drawing(own)})
        settings = self._service.settings_for(checked, include_prompt=True)
        return Asked([fields.get("prompt", "").replace("\r\n", "\n")], settings)

    def _render(self, fields: Mapping[str, str], written: Written | None, problem: Problem | None) -> str:
        service, own = self._service, self._service.settings
        manner = fields.get("preset", "") if fields.get("preset", "") in MANNERS else "even"
        unit, word = self._unit()
        status, status_class = "", ""
        if problem is not None:
            status, status_class = problem.message[:1].upper() + problem.message[1:], "bad"
        elif written is not None:
            status = f"Done: {written.text.tokens:,} {unit}."
            if not written.text.text.strip():
                status = "The model ended the text at once. Try another beginning, or another seed."
        return self._template.substitute(
            title=escape(own.page_title or service.name),
            kind=escape(self._kind()),
            model=escape(service.name),
            about=escape(self._about()),
            prompt=_after_tag(fields.get("prompt", "")),
            placeholder=Markup(' placeholder="{}"').format(own.examples[0]) if own.examples else "",
            examples=_examples(own.examples),
            presets=Markup("").join(
                Markup('<option value="{}" data-temperature="{}" data-top-p="{}"{}>{}</option>').format(
                    name, one.temperature, one.top_p, Markup(" selected" if name == manner else ""), one.name
                )
                for name, one in MANNERS.items()
            ),
            temperature=escape(fields.get("temperature", "") or MANNERS[manner].temperature),
            length=escape(fields.get("length", "") or min(own.length, own.max_tokens)),
            seed=escape(fields.get("seed", "")),
            max_tokens=own.max_tokens,
            max_prompt=own.max_prompt,
            unit=unit,
            token_word=word,
            status=escape(status),
            status_class=status_class,
            hidden="" if written is not None else " hidden",
            text=set_text(written.text.text, self._kind()) if written is not None else "",
            link=escape("?" + urlencode({name: fields[name] for name in FIELDS if fields.get(name)})),
        )

    def _generator(self) -> Generator | None:
        engine = self._service.engine
        return engine.generator if engine.state == "ready" else None

    def _kind(self) -> str:
        """How texts are set: "script", "posts", "episodes" or "text" (a script where it looks like one)."""
        if self._service.settings.page_kind != "auto":
            return self._service.settings.page_kind
        generator = self._generator()
        return "script" if generator is not None and generator.render == "script" else "text"

    def _unit(self) -> tuple[str, str]:
        generator = self._generator()
        return UNITS.get(generator.tokenizer.name if generator else "", ("tokens", "token"))

    def _about(self) -> str:
        generator = self._generator()
        if generator is None:
            return "The model is being loaded."
        model = generator.model
        if model is None:
            return "It goes on from what you write."
        return f"{model.name}, {_rounded(model.parameters)} parameters. It goes on from what you write."


def set_text(text: str, kind: str) -> Markup:
    """A text set for reading, everything escaped."""
    if kind == "posts":
        one = text.strip()
        count = Markup("<footer>{} characters</footer>").format(len(one))
        return Markup('<div class="post"><p>{}</p>{}</div>').format(one, count) if one else Markup("")
    blocks = typeset(text)
    if kind == "episodes" and blocks and is_title(blocks[0], text):
        title = Markup("<h2>{}</h2>").format(blocks[0].lines[0])
        return title + Markup("").join(map(_block, blocks[1:]))
    return Markup("").join(map(_block, blocks))


def is_title(block: Block, text: str) -> bool:
    """Is a text's first block an episode's title: one short line with more below it, and no sentence?"""
    line = text.lstrip("\n").split("\n")[0].strip()
    short = len(line) <= LONGEST_TITLE and not line.endswith((".", "!", "?", "…", "”", '"'))
    return block.kind == "plain" and len(block.lines) == 1 and "\n" in text.strip("\n") and short


def _block(block: Block) -> Markup:
    if block.kind == "speech":
        lines = Markup("").join(Markup("<p>{}</p>").format(line) for line in block.lines)
        return Markup('<div class="speech"><b>{}</b>{}</div>').format(block.name, lines)
    return Markup('<p class="{}">{}</p>').format(block.kind, Markup("\n").join(block.lines))


def _examples(examples: list[str]) -> Markup:
    if not examples:
        return Markup("")
    one = Markup('<li><a href="?{}" data-prompt="{}">{}</a></li>')
    items = Markup("").join(
        one.format(urlencode({"prompt": example}), example, " ".join(example.split()) or "…")
        for example in examples
    )
    return Markup('<ul class="examples" aria-label="Examples">{}</ul>').format(items)


def _after_tag(text: str) -> Markup:
    """A textarea's text: HTML drops one line break right after the tag."""
    return escape(f"\n{text}" if text.startswith("\n") else text)


def _rounded(count: int) -> str:
    for size, name in ((10**9, "billion"), (10**6, "million")):
        if count >= size:
            return f"{count / size:.3g} {name}"
    return f"{count:,}"
