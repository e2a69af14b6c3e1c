"""What each format becomes: samples as their makers document them, and what is wrong with damaged and hostile ones."""

from __future__ import annotations

import contextlib
import io
import json
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from tests.sources.dumps.test_dumps import zipped
from textmill.corpora.corpus import Document
from textmill.rules import RULES, render
from textmill.sources import BadItem
from textmill.sources.texts import Reading, Row, read_documents, text_kind


def rows(
    data: bytes | str, name: str, kind: str = "", text_field: str = "text", max_bytes: int = 1 << 30
) -> list[Row]:
    data = data.encode() if isinstance(data, str) else data
    found = text_kind(name, True, kind)
    assert found is not None
    reading = Reading(text_field, "auto", "cp1252", max_bytes)
    return list(read_documents(io.BytesIO(data), found, name, "from", reading)[1])


def one(data: bytes | str, name: str, kind: str = "") -> Document:
    (row,) = rows(data, name, kind)
    assert isinstance(row, Document), getattr(row, "reason", row)
    return row


def wrong(data: bytes | str, name: str, kind: str = "") -> str:
    with pytest.raises(BadItem) as caught:
        rows(data, name, kind)
    assert "\n" not in caught.value.reason
    return caught.value.reason


# --- posts

TWEET = {
    "tweet": {
        "id_str": "1050118621198921728",
        "full_text": "Bread &amp; 🥖 at six https://t.co/abc https://t.co/pic",
        "created_at": "Wed Oct 10 20:19:24 +0000 2018",
        "lang": "en",
        "entities": {
            "urls": [{"url": "https://t.co/abc", "expanded_url": "https://mill.example/bread"}],
            "media": [{"url": "https://t.co/pic", "media_url": "http://pbs.example/1.jpg"}],
        },
    }
}
REPLY = {"tweet": {"id_str": "2", "full_text": "@jo yes", "in_reply_to_status_id_str": "1", "lang": "und"}}
REPOST = {"tweet": {"id_str": "3", "full_text": "RT @jo: not mine"}}


def tweets(posts: list[object]) -> str:
    return f"window.YTD.tweets.part0 = {json.dumps(posts, indent=2)}"


def test_an_x_archive_is_a_document_a_post_without_reposts() -> None:
    first, second = rows(tweets([TWEET, REPLY, REPOST]), "tweets.js")
    url = "https://x.com/i/status/1050118621198921728"
    assert first == Document(
        "tweets.js#1050118621198921728",
        "Bread & 🥖 at six https://mill.example/bread",
        url,
        {"url": url, "date": "2018-10-10T20:19:24+00:00", "language": "en"},
    )
    assert isinstance(second, Document)
    assert (second.text, second.meta["reply"], "language" in second.meta) == ("@jo yes", True, False)


def test_old_x_archives_and_bad_posts() -> None:
    old = 'window.YTD.tweet.part0 = [ {"id_str": "5", "full_text": "old"}, {"tweet": {}}, 7 ]'
    found = rows(old, "tweet.js")
    assert [getattr(row, "text", None) or row.reason for row in found] == [  # type: ignore[union-attr]
        "old", "post 2 has no text ('full_text')", "post 3 has no text ('full_text')",
    ]  # fmt: skip
    assert wrong("window.YTD.ad_engagements.part0 = [1]", "tweets.js") == "not an X archive's tweets.js"
    assert wrong(tweets([TWEET])[:-40], "tweets.js") == "not an X archive's tweets.js (it ends in the middle)"
    assert wrong("[" * 100_000, "tweets.js") == "not an X archive's tweets.js (nested too deeply)"


def test_a_long_array_is_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    from textmill.sources import json_stream

    monkeypatch.setattr(json_stream, "HEAD", 40)
    monkeypatch.setattr(json_stream, "PIECE", 7)
    posts = [{"tweet": {"id_str": str(i), "full_text": f"post {i} ]}}[{{"}} for i in range(300)]
    assert [row.text for row in rows(tweets(posts), "tweets.js")] == [f"post {i} ]}}[{{" for i in range(300)]  # type: ignore[union-attr]


def note(number: int, content: str, **more: object) -> dict[str, object]:
    post = {
        "id": f"https://soil.example/users/jo/statuses/{number}",
        "url": f"https://soil.example/@jo/{number}",
        "type": "Note",
        "published": "2024-05-01T06:00:00Z",
        "to": ["https://www.w3.org/ns/activitystreams#Public"],
        "content": content,
        **more,
    }
    return {"type": "Create", "to": post["to"], "object": post}


def outbox(*activities: object) -> str:
    head = {"@context": "https://www.w3.org/ns/activitystreams", "type": "OrderedCollection", "totalItems": 9}
    return json.dumps({**head, "orderedItems": activities})


CONTENT = (
    '<p>Six 🌱 &amp; seven<br />beds, <a href="https://soil.example/tags/x" class="mention hashtag">#<span>soil</span>'
    "</a></p>"
    '<p><a href="https://long.example/a"><span class="invisible">https://</span><span class="ellipsis">long.ex</span>'
    '<span class="invisible">ample/a</span></a></p>'
)


def test_a_mastodon_archive_is_a_document_a_public_post() -> None:
    boost = {"type": "Announce", "object": "https://other.example/1"}
    direct = note(3, "<p>secret</p>", to=["https://soil.example/users/mo"], cc=[])
    unlisted = note(
        4,
        "<p>d'accord</p>",
        to=["x/followers"],
        cc=["as:Public"],
        inReplyTo="y",
        contentMap={"fr": "…"},
        summary="food",
    )
    first, second = rows(outbox(note(1, CONTENT), boost, direct, unlisted), "outbox.json")
    assert isinstance(first, Document)
    assert isinstance(second, Document)
    assert first.text == "Six 🌱 & seven\nbeds, #soil\n\nhttps://long.example/a"
    assert (first.id, first.source) == ("outbox.json#1", "https://soil.example/@jo/1")
    assert second.meta == {
        "url": "https://soil.example/@jo/4", "date": "2024-05-01T06:00:00Z", "warning": "food", "language": "fr",
        "reply": True,
    }  # fmt: skip
    assert wrong('{"orderedItems": 7}', "outbox.json") == "not a Mastodon archive's outbox.json"
    (bad,) = rows(outbox({"type": "Create", "object": 7}), "outbox.json")
    assert bad.reason == "entry 1 of its orderedItems is no post with a 'content'"  # type: ignore[union-attr]


# --- tables


def parquet(**columns: list[object]) -> bytes:
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), file, row_group_size=2, compression="zstd")
    return file.getvalue()


def test_a_parquet_table_is_a_document_a_row() -> None:
    data = parquet(
        id=["a", "b", "c"],
        body=["one\r\ntwo", None, "drei 🥖"],
        when=[datetime(2024, 5, 1, tzinfo=UTC)] * 3,
        raw=[b"\xff"] * 3,
        score=[1.5, 2.5, float("nan")],
        tags=[["x"], [], None],
    )
    first, second, third = rows(data, "posts.parquet", text_field="body")
    meta = {"when": "2024-05-01T00:00:00+00:00", "score": 1.5, "tags": ["x"]}
    assert first == Document("posts.parquet#a", "one\ntwo", "from", meta)
    assert isinstance(second, BadItem)
    assert second.reason == "row 2 has no text in column 'body'"
    assert isinstance(third, Document)
    assert (third.text, third.meta) == ("drei 🥖", {"when": "2024-05-01T00:00:00+00:00"})


def test_what_is_wrong_with_a_table_is_one_line() -> None:
    assert (
        wrong(parquet(body=["x"]), "a.parquet")
        == "no column 'text' (it has 'body'); name one with text_field"
    )
    assert wrong(parquet(text=[1]), "a.parquet") == "column 'text' is of type int64, not a text"
    assert wrong(parquet(text=["x" * 99])[:-30], "a.parquet").startswith("not a readable Parquet file (")


def test_a_table_that_unpacks_to_too_much_is_refused() -> None:
    bomb = parquet(text=["x" * 1_000_000] * 40)
    assert len(bomb) < 50_000
    with pytest.raises(BadItem, match="unpacks to more than 200 times its size"):
        rows(bomb, "a.parquet", max_bytes=1 << 40)


# --- books


STARTS = "*** START OF THE PROJECT GUTENBERG EBOOK THE MILL ***"
ENDS = "*** END OF THE PROJECT GUTENBERG EBOOK THE MILL ***"
BOOK = """The Project Gutenberg eBook of The Mill

This eBook is for the use of anyone anywhere.

Title: The Mill
Author: Jo Miller
Language: English

*** START OF THE PROJECT GUTENBERG EBOOK THE MILL ***

Produced by A. Reader
and the Online Team

CHAPTER I

The wheel turned.

*** END OF THE PROJECT GUTENBERG EBOOK THE MILL ***

Section 1. General Terms of Use
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", ""),
        (STARTS, "***START OF THIS PROJECT GUTENBERG EBOOK THE MILL***"),
        (STARTS, "*** START OF THE PROJECT GUTENBERG EBOOK THE MILL\nAND THE RACE ***"),
        (STARTS, "*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*"),
        (ENDS, "End of Project Gutenberg's The Mill, by Jo Miller\n\n*** END OF THIS"),
        (ENDS, "End of the Project Gutenberg Etext of The Mill"),
    ],
)  # fmt: skip
def test_a_gutenberg_text_loses_its_header_and_licence(before: str, after: str) -> None:
    document = one(BOOK.replace(before, after) if before else BOOK, "mill.txt", "gutenberg")
    assert document.text == "CHAPTER I\n\nThe wheel turned.\n"
    assert document.meta == {
        "title": "The Mill", "author": "Jo Miller", "language": "English",
        "licence": "public domain in the USA (Project Gutenberg)",
    }  # fmt: skip


def test_a_text_without_gutenbergs_marks_is_reported() -> None:
    assert wrong("Just a text.", "a.txt", "gutenberg").startswith(
        "no line '*** START OF THE PROJECT GUTENBERG"
    )
    assert wrong(BOOK[:300], "a.txt", "gutenberg").endswith("in it; the file is cut")


def test_wikitext_is_a_document_an_article() -> None:
    dump = (
        " \n = The Mill = \n \n The mill @-@ race is 1 @,@ 200 m long . \n \n = = History = = \n \n It = is old . \n"
        " = The <unk> = \n \n Text 3 @.@ 5 . \n = Empty = \n"
    )
    found = rows(dump, "wiki.train.tokens", "wikitext")
    assert [(row.id, row.text, row.meta) for row in found] == [  # type: ignore[union-attr]
        ("wiki.train.tokens#1", "The Mill\n\nThe mill-race is 1,200 m long .\n\nHistory\n\nIt = is old .\n",
         {"title": "The Mill"}),
        ("wiki.train.tokens#2", "The <unk>\n\nText 3.5 .\n", {"title": "The <unk>"}),
        ("wiki.train.tokens#3", "", {"title": "Empty"}),
    ]  # fmt: skip
    assert wrong("plain text\n", "a.txt", "wikitext") == "no heading of the form ' = Title = ' in it"


CONTAINER = b"""<?xml version="1.0"?><container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container">
<rootfiles><rootfile full-path="OEBPS/book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>"""
PACKAGE = b"""<?xml version="1.0"?><package xmlns="http://www.idpf.org/2007/opf" version="3.0"
xmlns:dc="http://purl.org/dc/elements/1.1/"><metadata><dc:title>The
Mill</dc:title><dc:creator>Jo</dc:creator><dc:creator>Mo</dc:creator><dc:rights>CC0</dc:rights></metadata><manifest>
<item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>
<item id="c1" href="text/one%20a.xhtml" media-type="application/xhtml+xml"/>
<item id="c2" href="../two.xhtml" media-type="application/xhtml+xml"/>
<item id="pic" href="p.png" media-type="image/png"/></manifest>
<spine><itemref idref="nav"/><itemref idref="c2"/><itemref idref="c1"/><itemref idref="pic"/></spine></package>"""
PAGE = "<html xmlns='http://www.w3.org/1999/xhtml'><head><title>no</title></head><body>{}</body></html>"


def epub(**changed: bytes) -> bytes:
    files = {
        "mimetype": b"application/epub+zip",
        "META-INF/container.xml": CONTAINER,
        "OEBPS/book.opf": PACKAGE,
        "OEBPS/nav.xhtml": PAGE.format("contents").encode(),
        "OEBPS/text/one a.xhtml": PAGE.format("<h1>One</h1><p>The <i>wheel</i>\nturned.</p>").encode(),
        "two.xhtml": PAGE.format("<p>Zwei — Mühle &amp; Bach</p><script>no</script>").encode(),
    }
    return zipped(
        {**files, **{name.replace("__", "/").replace("_dot_", "."): data for name, data in changed.items()}}
    )


def test_an_epub_is_a_book_in_reading_order() -> None:
    document = one(epub(), "mill.epub")
    assert document.text == "Zwei — Mühle & Bach\n\nOne\n\nThe wheel turned.\n"
    assert document.meta == {"title": "The Mill", "author": "Jo, Mo", "licence": "CC0"}


def test_what_is_wrong_with_an_epub_is_one_line() -> None:
    assert wrong(zipped({"a": b""}), "a.epub") == "not an EPUB (no META-INF/container.xml in it)"
    assert wrong(epub(two_dot_xhtml=b"x" * 40_000_000), "a.epub").startswith("unpacks to more than 200 times")
    sealed = b"<encryption><EncryptedData><CipherReference URI='two.xhtml'/></EncryptedData></encryption>"
    assert (
        wrong(epub(**{"META-INF__encryption_dot_xml": sealed}), "a.epub")
        == "encrypted (protected against copying)"
    )
    assert wrong(epub()[:-200], "a.epub").startswith("damaged: ")
    assert "is not valid XML" in wrong(epub(OEBPS__book_dot_opf=b"<package>"), "a.epub")


def test_entities_in_an_epubs_xml_are_not_expanded(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    levels = "".join(f'<!ENTITY e{i + 1} "{f"&e{i};" * 10}">' for i in range(9))
    laughs = f'<!DOCTYPE package [<!ENTITY e0 "ha">{levels}<!ENTITY f SYSTEM "file://{secret}">]>'
    for entity in ("&e9;", "&f;"):
        package = PACKAGE.replace(b"<package", laughs.encode() + b"<package", 1).replace(
            b"CC0", entity.encode()
        )
        said = wrong(epub(OEBPS__book_dot_opf=package), "a.epub")
        assert "entities of its own, which are not expanded" in said or "Maximum entity amplification" in said
    page = f'<?xml version="1.0"?><!DOCTYPE html [<!ENTITY f SYSTEM "file://{secret}">]>' + PAGE.format(
        "<p>a &f; b</p>"
    )
    assert "secret" not in one(epub(two_dot_xhtml=page.encode()), "a.epub").text


def test_an_html_file_is_its_main_text_in_whatever_encoding() -> None:
    body = (
        "<nav>Home Shop Contact</nav><article><h1>The Mühle</h1>"
        + "<p>The wheel turned, and turned again, for days.</p>" * 5
    )
    page = f'<html><head><meta charset="iso-8859-1"><title>The Mühle</title></head><body>{body}</article></body></html>'
    document = one(page.encode("latin-1"), "a.html")
    assert "The wheel turned" in document.text
    assert "Shop" not in document.text
    assert document.meta["title"] == "The Mühle"
    assert one("<p>short</p>", "a.htm").text == "short\n"


def test_markdown_is_its_words() -> None:
    text = (
        "---\ntitle: The Mill\nlicense: CC0\ntags: [a]\n---\n# The *Mill*\n\n"
        "It **turned**, [slowly](http://a.b)\nfor ![a wheel](w.png).\n\n"
        "- one\n- two\n\n> quoted `code`\n\n```py\nx = 1\n```\n\n<div>html</div>\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"
    )
    document = one(text, "a.md")
    assert (
        document.text
        == "The Mill\n\nIt turned, slowly\nfor a wheel.\n\none\n\ntwo\n\nquoted code\n\nx = 1\n\na\n\nb\n\n1\n\n2\n"
    )
    assert document.meta == {"title": "The Mill", "licence": "CC0"}
    assert one("--- \nno: front\n", "a.md").text == "no: front\n"


def pdf(pages: list[list[str]]) -> bytes:
    """A PDF as small as can be, with these lines on its pages."""
    objects = [b"<</Type/Catalog/Pages 2 0 R>>", b"", b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"]
    kids = []
    for lines in pages:
        drawn = "".join(f"({line}) Tj 0 -20 Td " for line in lines)
        stream = f"BT /F1 12 Tf 72 700 Td {drawn}ET".encode("latin-1")
        objects.append(b"<</Length %d>>stream\n%s\nendstream" % (len(stream), stream))
        font = b"<</Font<</F1 3 0 R>>>>"
        objects.append(
            b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Resources%s/Contents %d 0 R>>"
            % (font, len(objects))
        )
        kids.append(b"%d 0 R" % len(objects))
    objects[1] = b"<</Type/Pages/Count %d/Kids[%s]>>" % (len(kids), b" ".join(kids))
    data, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(data))
        data += b"%d 0 obj%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    tail = b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, len(data))
    return data + b"xref\n0 %d\n0000000000 65535 f \n%s" % (len(objects) + 1, table) + tail


def test_a_pdf_is_its_text_without_running_titles() -> None:
    document = one(
        pdf(
            [
                ["The Mill", f"Page text {word} of the won-", f"der {word * 3}.", str(i)]
                for i, word in enumerate("abcde")
            ]
        ),
        "a.pdf",
    )
    assert (
        document.text == "\n\n".join(f"Page text {word} of the wonder {word * 3}." for word in "abcde") + "\n"
    )
    assert one(pdf([["Title", "one"], ["Title", "two"]]), "a.pdf").text == "Title\none\n\nTitle\ntwo\n"


def test_what_is_wrong_with_a_pdf_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    assert wrong(pdf([[], []]), "a.pdf") == "no text in it, only pictures of pages (a scan)"
    assert wrong(b"%PDF-1.4\nnothing", "a.pdf").startswith("damaged: ")
    assert wrong(b"garbage\n", "a.pdf").startswith("damaged: ")
    assert not caplog.records, "what pypdf logs on its way would be more lines"


# --- films

SRT = """\ufeff1
00:00:01,000 --> 00:00:02,500
<i>The wheel</i> turns,
{\\an8}and turns.

2
00:00:03,000 --> 00:00:04,000
- Who is there?
- Me.

3
00:00:04,100 --> 00:00:05,000
- Who is there?
- Me.

4
00:01:00,000 --> 00:01:02,000
Tom &amp; Ann
"""
VTT = """WEBVTT - a film

NOTE not said

STYLE
::cue { color: red }

intro
00:01.000 --> 00:02.000 align:start
<v.loud Ann>Hello, <c.yellow>you</c>!
<v Tom>Hello.

00:02.500 --> 00:03.000
rolling line one

00:03.000 --> 00:03.500
rolling line one
and two
"""


def test_subtitles_are_what_is_said() -> None:
    said = "The wheel turns, and turns.\n- Who is there?\n- Me.\n\nTom & Ann\n"
    assert one(SRT, "a.srt").text == said
    assert one(SRT.replace("\n", "\r\n").encode("utf-16"), "a.srt").text == said
    assert one(VTT, "a.vtt").text == "Ann\tHello, you!\nTom\tHello.\nrolling line one\nand two\n"
    assert wrong("just text", "a.srt") == "no caption (00:00:01,000 --> 00:00:02,000) in it"


FOUNTAIN = """Title:
    _**The Mill**_
Credit: Written by
Author: Jo Miller

# Act One

INT. MILL - DAY #1#

The wheel *turns*. /* cut
this */ A DOOR creaks.

JO (V.O.)
(quietly)
Who is there?
~~
[[a note]]And why?

@McTavish ^
Me. [Only me.]

CUT TO:

.SNIPER SCOPE

> THE END <
"""
SCRIPT = (
    "SCENE\tINT. MILL - DAY\n\n[The wheel turns. A DOOR creaks.]\n\nJO\t[quietly] Who is there? And why?\n\n"
    "McTavish\tMe. (Only me.)\n\n[CUT TO:]\n\nSCENE\tSNIPER SCOPE\n\n[THE END]\n"
)


def test_a_fountain_script_becomes_the_layout_that_script_markup_reads() -> None:
    document = one(FOUNTAIN.replace("~~", "  "), "mill.fountain")
    assert document.text == SCRIPT
    assert document.meta == {"title": "The Mill", "author": "Jo Miller"}
    shown = render("script", RULES["script_markup"].apply(document.text).text)
    assert "[ JO ]: [quietly] Who is there? And why?" in shown
    assert "[ MCTAVISH ]: Me." in shown
    assert "{{ The wheel turns." in shown


def test_a_fountain_script_without_a_title_page() -> None:
    assert one("EXT. HILL\n\nJO\nHello.\n", "a.fountain").text == "SCENE\tEXT. HILL\n\nJO\tHello.\n"
    assert one("CUT TO:\n\nA hill.\n", "a.fountain").text == "[CUT TO:]\n\n[A hill.]\n"


FDX = """<?xml version="1.0" encoding="UTF-8"?>
<FinalDraft DocumentType="Script" Template="No" Version="5"><Content>
<Paragraph Type="Scene Heading" Number="1"><Text>INT. MILL - DAY</Text></Paragraph>
<Paragraph Type="Action">
<Text>The wheel </Text><Text Style="Italic">turns</Text><Text>. A DOOR creaks.</Text></Paragraph>
<Paragraph Type="Character"><Text>JO (V.O.)</Text></Paragraph>
<Paragraph Type="Parenthetical"><Text>(quietly)</Text></Paragraph>
<Paragraph Type="Dialogue"><Text>Who is there? And why?</Text></Paragraph>
<Paragraph Type="Character"><Text>McTavish</Text></Paragraph>
<Paragraph Type="Dialogue"><Text>Me. [Only me.]</Text></Paragraph>
<Paragraph Type="Transition"><Text>CUT TO:</Text></Paragraph>
<Paragraph Type="Scene Heading"><Text>SNIPER SCOPE</Text></Paragraph>
<Paragraph><Text>THE END</Text></Paragraph>
</Content><TitlePage><Content><Paragraph><Text>no</Text></Paragraph></Content></TitlePage></FinalDraft>"""


def test_a_final_draft_script_becomes_the_same() -> None:
    assert one(FDX, "mill.fdx").text == SCRIPT


def test_hostile_and_foreign_xml_is_one_line() -> None:
    assert wrong("<FinalDraft/>", "a.fdx") == "not a Final Draft script (no FinalDraft/Content in it)"
    bomb = '<!DOCTYPE F [<!ENTITY a "ha">]>' + FDX.partition("?>")[2].replace("CUT TO:", "&a;")
    assert wrong(bomb, "a.fdx") == "the file has entities of its own, which are not expanded"
    assert wrong("<a>" * 5000, "a.fdx").startswith("the file is not valid XML")


def test_a_zip_member_with_a_password_is_damaged_not_a_traceback() -> None:
    data = bytearray(epub())
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        infos = archive.infolist()
    for info in infos:
        data[info.header_offset + 6] |= 1
    position = 0
    while (position := data.find(b"PK\x01\x02", position)) >= 0:
        data[position + 8] |= 1
        position += 4
    assert wrong(bytes(data), "a.epub").startswith("damaged: ")


PIECES = [
    "[[", "/*", "*/", "/* */", "*", "_", "_a", "(a", "A\n", "A:", "\n", " \n", "  \n", "= ", "= a", "=", " = a = \n",
    "@-@ ", "<v ", "<v a>", "<", "{\\", "-->", "00:00:01,000 --> ", "00:00:01,000 --> 00:00:02,000\na\n\n", "0", "*** ",
    "*** START OF THE PROJECT GUTENBERG EBOOK\n", "Produced by a\n\n", "[Illustration]\n", "Title: ", "\\*", "[",
    '{"a":', "(b)\n", "A\nb\n",
    "&", "INT. ", "~", "window.YTD.tweets.part0 = [", '"orderedItems": [', "@A\nb\n\n", ">",
]  # fmt: skip


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "kind", ["fountain", "gutenberg", "wikitext", "subtitles", "x-archive", "mastodon-archive"]
)
def test_no_text_takes_more_than_linear_time(kind: str) -> None:
    head = STARTS + "\n" if kind == "gutenberg" else " = a = \n" if kind == "wikitext" else ""
    for piece in PIECES:
        with contextlib.suppress(BadItem):
            rows(head + piece * (100_000 // len(piece)) + f"\n{ENDS}\n", "a.txt", kind)
