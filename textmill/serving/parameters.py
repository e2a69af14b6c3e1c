"""What a request may say: JSON Schemas, and the check of a request against them with one clear line.

The OpenAPI document shows the same tables. Knows JSON; knows nothing of models and of how a request is answered.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from textmill.errors import InputError
from textmill.serving.settings import ServeSettings
from textmill.settings import unknown_name

Schema = Mapping[str, Any]

LARGEST_SEED = 2**63 - 1
LONGEST_STOP = 500
MOST_STOPS = 16
MOST_LIKELIEST = 5  # OpenAI's, and the decoders'

KINDS: dict[str, tuple[str, type | tuple[type, ...]]] = {
    "string": ("a string", str),
    "integer": ("a whole number", (int, float)),
    "number": ("a number", (int, float)),
    "boolean": ("true or false", bool),
    "array": ("a list", list),
    "object": ("an object", dict),
    "null": ("null", type(None)),
}


class BadRequest(InputError):
    """The request cannot be used as it is; `param` is the part that is meant."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param, self.code = param, code


def parse_json(body: bytes) -> dict[str, Any]:
    """The object that a body holds. Raises BadRequest."""
    try:
        value = json.loads(body, parse_constant=_no_constant)
    except RecursionError:
        raise BadRequest("the body is nested too deeply.") from None
    except ValueError as error:
        said = str(error) if isinstance(error, json.JSONDecodeError) else "not UTF-8, or a number too long"
        raise BadRequest(f"the body is not JSON: {said}.") from None
    if not isinstance(value, dict):
        raise BadRequest("the body must be a JSON object.")
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def check(values: Mapping[str, Any], schema: Schema, inside: str = "") -> dict[str, Any]:
    """The values that are given and not null, checked. Raises BadRequest for the first that is wrong."""
    properties = schema["properties"]
    for name in values:
        if name not in properties:
            raise BadRequest(unknown_name("parameter", name[:100], properties, inside), name[:100])
    for name in schema.get("required", ()):
        if values.get(name) is None:
            raise BadRequest(f"{inside}{'.' if inside else ''}{name} is missing.", name)
    found = {}
    for name, value in values.items():
        path = f"{inside}.{name}" if inside else name
        value = _checked(value, properties[name], path)
        if value is not None:
            found[name] = value
    return found


def _checked(value: Any, schema: Schema, path: str) -> Any:
    if "anyOf" in schema:
        kinds = [_kind(value, one) for one in schema["anyOf"]]
        fitting = [one for one, kind in zip(schema["anyOf"], kinds, strict=True) if kind]
        if not fitting:
            raise BadRequest(f"{path} must be {_spelled(schema)}.", path)
        return _checked(value, fitting[0], path)
    kind = _kind(value, schema)
    if not kind:
        raise BadRequest(f"{path} must be {_spelled(schema)}.", path)
    if kind == "null":
        return None
    if kind == "integer":
        value = int(value)
    if "enum" in schema and value not in schema["enum"]:
        allowed = ", ".join(json.dumps(one) for one in schema["enum"])
        raise BadRequest(f"{path} must be one of: {allowed}.", path)
    if kind in ("integer", "number"):
        _bounded(value, schema, path, "minimum", "maximum", "")
    elif kind == "string":
        _bounded(len(value), schema, path, "minLength", "maxLength", " characters long")
        _whole_characters(value, path)
    elif kind == "array":
        _bounded(len(value), schema, path, "minItems", "maxItems", " items long")
        value = [_checked(one, schema["items"], f"{path}[{i}]") for i, one in enumerate(value)]
    elif kind == "object" and "properties" in schema:
        value = check(value, schema, path)
    elif kind == "object" and value and schema.get("maxProperties") == 0:
        raise BadRequest(f"{path} is not supported; leave it out.", path)
    return value


def _kind(value: Any, schema: Schema) -> str:
    """Which of the schema's types the value has, or ""."""
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    for name in types:
        if isinstance(value, bool) and name != "boolean":
            continue
        if name == "integer" and isinstance(value, float) and not value.is_integer():
            continue
        if isinstance(value, KINDS[name][1]):
            return str(name)
    return ""


def _spelled(schema: Schema) -> str:
    if "anyOf" in schema:
        return " or ".join(_spelled(one) for one in schema["anyOf"] if one["type"] != "null")
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    names = [KINDS[name][0] for name in types if name != "null"] or ["null"]
    if "items" in schema:
        names[0] += f" of which each is {_spelled(schema['items'])}"
    return " or ".join(names)


def _bounded(size: float, schema: Schema, path: str, low: str, high: str, unit: str) -> None:
    if low in schema and size < schema[low]:
        raise BadRequest(f"{path} is {_short(size)}{unit}; it must be at least {schema[low]}.", path)
    if high in schema and size > schema[high]:
        raise BadRequest(f"{path} is {_short(size)}{unit}; it must be at most {schema[high]}.", path)


def _short(size: float) -> str:
    text = str(size)
    return text if len(text) <= 30 else f"{text[:27]}..."


def _whole_characters(text: str, path: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadRequest(f"{path} holds half of a character (a lone surrogate).", path) from None


# ---------------------------------------------------------------------- the tables


def _maybe(kind: str, description: str, **more: Any) -> dict[str, Any]:
    return {"type": [kind, "null"], "description": description, **more}


def drawing(settings: ServeSettings) -> dict[str, Any]:
    """How a text is drawn and where it ends: what all ways in share."""
    stop = {"type": "string", "minLength": 1, "maxLength": LONGEST_STOP}
    return {
        "max_tokens": _maybe(
            "integer",
            f"Most tokens of a text; {settings.length} where not given.",
            minimum=0,
            maximum=settings.max_tokens,
        ),
        "temperature": _maybe(
            "number", "Below 1 is safer, above 1 wilder; 0 takes the likeliest token.", minimum=0, maximum=2
        ),
        "top_p": _maybe(
            "number", "Draw from the fewest tokens that hold this probability together.", minimum=0, maximum=1
        ),
        "top_k": _maybe(
            "integer", "Draw from the k likeliest tokens only; 0: from all.", minimum=0, maximum=2**31 - 1
        ),
        "repetition_penalty": _maybe(
            "number", "Above 1 makes tokens that stood in the text less likely.", minimum=0.01, maximum=100
        ),
        "seed": _maybe(
            "integer",
            "The same seed gives the same text, whatever else is being written; one is chosen where not given.",
            minimum=0,
            maximum=LARGEST_SEED,
        ),
        "stop": {
            "description": "End a text before any of these strings.",
            "anyOf": [stop, {"type": "array", "items": stop, "maxItems": MOST_STOPS}, {"type": "null"}],
        },
        "stop_at_end": _maybe(
            "boolean", "End a text where the model ends the document; true where not given."
        ),
        "whole_sentences": _maybe("boolean", "Cut a text after its last full sentence."),
        "recapitalize": _maybe(
            "boolean", "Close the space before punctuation and begin sentences with a capital letter."
        ),
        "sentences": _maybe(
            "integer", "End a text after so many full sentences.", minimum=0, maximum=100_000
        ),
        "most_characters": _maybe(
            "integer",
            "Most characters of a text, cut at a sentence's or word's end.",
            minimum=0,
            maximum=10**7,
        ),
        "render": _maybe(
            "string",
            "script sets marked-up text for reading, sentences recapitalizes, plain shows it as the model writes it, "
            "auto goes by the model.",
            enum=["auto", "script", "sentences", "plain", None],
        ),
    }


def shared(values: Mapping[str, Any]) -> dict[str, Any]:
    """Of checked values, those that `drawing` names."""
    return {name: values[name] for name in drawing(ServeSettings()) if name in values}


def completion(settings: ServeSettings) -> dict[str, Any]:
    """POST /v1/completions."""
    prompt = {"type": "string", "maxLength": settings.max_prompt}
    none = "Not supported; only what changes nothing is accepted."
    properties = {
        "model": _maybe("string", "The model's name, as /v1/models gives it.", maxLength=1000),
        "prompt": {
            "description": "Text to go on from, or a list of such texts.",
            "anyOf": [
                prompt,
                {"type": "array", "items": prompt, "minItems": 1, "maxItems": settings.max_texts},
                {"type": "null"},
            ],
        },
        **drawing(settings),
        "n": _maybe("integer", "Texts for each prompt.", minimum=1, maximum=settings.max_texts),
        "stream": _maybe("boolean", "Send the text as server-sent events while it is written."),
        "stream_options": {
            "type": ["object", "null"],
            "description": "include_usage: a last event says how many tokens there were.",
            "properties": {
                "include_usage": _maybe("boolean", "Send the usage."),
                "include_obfuscation": _maybe("boolean", "Accepted; nothing is added."),
            },
            "additionalProperties": False,
        },
        "logprobs": _maybe(
            "integer",
            "Give the log probability of each token, and of so many that were the likeliest in its place.",
            minimum=0,
            maximum=MOST_LIKELIEST,
        ),
        "echo": _maybe("boolean", "Give the prompt before the text."),
        "user": _maybe("string", "Accepted; not used.", maxLength=1000),
        "best_of": _maybe("integer", "Accepted where it equals n.", minimum=1, maximum=settings.max_texts),
        "frequency_penalty": _maybe("number", none, minimum=0, maximum=0),
        "presence_penalty": _maybe("number", none, minimum=0, maximum=0),
        "logit_bias": _maybe("object", none, maxProperties=0),
        "suffix": _maybe("string", none, maxLength=0),
    }
    return _object(properties)


def generation(settings: ServeSettings) -> dict[str, Any]:
    """POST /v2/models/{model}/generate and generate_stream."""
    parameters = _object(drawing(settings))
    parameters["type"] = ["object", "null"]
    parameters["description"] = "How the text is drawn and where it ends."
    text = {
        "type": "string",
        "description": "Text to go on from.",
        "maxLength": settings.max_prompt,
    }
    return _object({"id": _maybe("string", "Returned as it is.", maxLength=1000), "text_input": text,
                    "parameters": parameters}, required=["text_input"])  # fmt: skip


def _object(properties: dict[str, Any], required: list[str] | None = None) -> dict[str, Any]:
    made: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**made, "required": required} if required else made
