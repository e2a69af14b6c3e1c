"""What the service is told. The bearer token is not a setting, so that it stands in no command line and no log: it
comes from the environment variable TEXTMILL_SERVE_TOKEN or from `token_file`.
"""

from __future__ import annotations

from dataclasses import dataclass

from textmill.devices import WRITING_PRECISIONS
from textmill.settings import Settings, setting

TOKEN_VARIABLE = "TEXTMILL_SERVE_TOKEN"


@dataclass(frozen=True)
class ServeSettings(Settings):
    """Where the service listens, what it allows, how it batches."""

    name: str = setting("", "The model's name in requests (empty: the checkpoint's folder name).")
    host: str = setting("127.0.0.1", "Address to listen on; 0.0.0.0 for all.")
    port: int = setting(8080, "Port to listen on; 0 takes a free one.", minimum=0, maximum=65535)
    slots: int = setting(32, "Most texts written at the same time.", minimum=1, maximum=32)
    queue: int = setting(
        100, "Most texts that wait for a slot; beyond that, 429.", minimum=1, maximum=100_000
    )
    length: int = setting(256, "Tokens of a text where a request does not say.", minimum=1)
    max_tokens: int = setting(4096, "Most tokens of a text.", minimum=1)
    max_prompt: int = setting(20_000, "Most characters of a prompt.", minimum=1)
    max_texts: int = setting(32, "Most texts of one request.", minimum=1, maximum=1000)
    max_body: int = setting(262_144, "Most bytes of a request's body.", minimum=1024, maximum=64 << 20)
    deadline: float = setting(
        300.0, "Seconds after which a text is cut, and a request that still waits is refused.", minimum=0.1
    )
    grace: float = setting(
        25.0, "Seconds after SIGTERM and linger until texts that are being written are cut.", minimum=0
    )
    linger: float = setting(
        0.0,
        "Seconds after SIGTERM in which new requests are still taken, and each connection is closed after its answer: "
        "what sends requests here learns meanwhile to send them elsewhere.",
        minimum=0,
    )
    token_file: str = setting(
        "", f"File with the bearer tokens that are accepted, one a line (or one in {TOKEN_VARIABLE})."
    )
    cors: list[str] = setting([], "Origins whose pages may call the service; '*' for all.")
    rate_limit: int = setting(0, "Requests a minute that one client may make (0: no limit).", minimum=0)
    trusted_proxies: list[str] = setting(
        [], "Addresses of proxies whose X-Forwarded-For names the client; '*' for all."
    )
    connections: int = setting(1000, "Most connections at the same time.", minimum=1)
    log: str = setting("text", "Form of the log lines.", choices=("text", "json"))
    default_prompt: str = setting("", "What GET /?sample= goes on from where the sample is empty.")
    whole_sentences: bool = setting(
        False, "Cut a text after its last full sentence where a request does not say."
    )
    recapitalize: bool = setting(
        False,
        "Close the space before punctuation and begin sentences with a capital where a request does not say.",
    )
    page_title: str = setting("", "Heading of the page at / (empty: the model's name).")
    page_kind: str = setting(
        "auto",
        "How the page sets texts: as a script with its speakers, as posts, as episodes with a title, as plain text; "
        "auto: as a script where the text looks like one.",
        choices=("auto", "script", "posts", "episodes", "text"),
    )
    examples: list[str] = setting([], "Beginnings that the page offers.")
    precision: str = setting(
        "auto",
        "Number format of the model's matrices: auto is bfloat16 where the CPU computes in it. int8, for GPT-2 on a "
        "CPU, is faster for few texts at a time, and less exact.",
        choices=WRITING_PRECISIONS,
    )
