"""The OpenAPI document of the service. What a request may say comes from the tables that requests are checked against.

https://spec.openapis.org/oas/v3.1.0
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from textmill import __version__
from textmill.serving import parameters
from textmill.serving.sample_api import CALLBACK, LONGEST_CALLBACK
from textmill.serving.settings import ServeSettings

NOTHING: Mapping[str, Any] = {}
MEANINGS = {
    "400": "The request cannot be used as it is; the message says why.",
    "401": "A bearer token is missing or not known.",
    "404": "There is no such model here.",
    "408": "The body came too slowly.",
    "413": "The body is too large.",
    "415": "The body is not said to be JSON.",
    "429": "Too many requests wait, or come from this client; Retry-After says when to come again.",
    "431": "The request's head is too large.",
    "500": "The service has failed.",
    "503": "The model is being loaded, or the service is shutting down; Retry-After says when to come again.",
}


def document(settings: ServeSettings, name: str, *, secured: bool) -> dict[str, Any]:
    """The document of a service with these settings; `secured`: it wants a bearer token."""
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "textmill serve",
            "version": __version__,
            "description": f"Text from the model {name!r}. Every error is an object `error` with one clear `message`.",
        },
        "paths": _paths(settings, name),
        "components": {"schemas": _schemas(settings)},
    }
    if secured:
        found["components"]["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
        for path, methods in found["paths"].items():
            for operation in methods.values():
                if path.startswith(("/v1", "/v2/models", "/mock")) or path in ("/", "/v2"):
                    operation["security"] = [{"bearer": []}]
                    operation["responses"]["401"] = _error("401")
    return found


def _paths(settings: ServeSettings, name: str) -> dict[str, Any]:
    models = {"type": "string", "description": "The model's name.", "maxLength": 1000, "example": name}
    model = {"name": "model", "in": "path", "required": True, "schema": models}
    writes = ("400", "408", "413", "415", "429", "500", "503")
    return {
        "/v1/completions": {
            "post": _operation(
                "completions",
                "Go on from a prompt, as OpenAI's completions do.",
                _json(_ref("Completion")) | _stream("Completion chunks, each a Completion; then [DONE]."),
                *writes,
                "404",
                body="CompletionRequest",
            )
        },
        "/v1/models": {"get": _operation("models", "The model, as a list.", _json(_ref("Models")))},
        "/v1/models/{model}": {
            "get": _operation("model", "The model.", _json(_ref("Model")), "404", parameters=[model])
        },
        "/v2": {"get": _operation("server", "What serves.", _json(_open("name", "version", "extensions")))},
        "/v2/health/live": {
            "get": _operation("live", "Whether the process works.", _json(_flag("live")), health=True)
        },
        "/v2/health/ready": {
            "get": _operation("ready", "Whether requests are taken.", _json(_flag("ready")), health=True)
        },
        "/v2/models/{model}": {
            "get": _operation(
                "model_metadata",
                "The model's inputs and outputs.",
                _json(_open("name", "versions", "platform", "inputs", "outputs")),
                "404",
                parameters=[model],
            )
        },
        "/v2/models/{model}/ready": {
            "get": _operation(
                "model_ready",
                "Whether the model takes requests.",
                _json(_open("name", "ready")),
                "404",
                parameters=[model],
                health=True,
            )
        },
        "/v2/models/{model}/generate": {
            "post": _operation(
                "generate",
                "Go on from a text, by the Open Inference Protocol.",
                _json(_ref("Generation")),
                *writes,
                "404",
                parameters=[model],
                body="GenerationRequest",
            )
        },
        "/v2/models/{model}/generate_stream": {
            "post": _operation(
                "generate_stream",
                "The same as server-sent events.",
                _stream("Generations, each with a part of the text."),
                *writes,
                "404",
                parameters=[model],
                body="GenerationRequest",
            )
        },
        "/": {
            "get": _operation(
                "sample",
                "The page; with `sample`, a text that goes on from it, up to its last full sentence.",
                _json({"type": "object"}) | _script() | {"text/html": {"schema": {"type": "string"}}},
                *("400", "429", "500", "503"),
                parameters=[
                    _query("sample", "Text to go on from.", maxLength=settings.max_prompt),
                    _callback(),
                ],
            )
        },
        "/mock": {
            "get": _operation(
                "mock",
                "A fixed text.",
                _json(_open("sample_text")) | _script(),
                "400",
                parameters=[_callback()],
            )
        },
        "/metrics": {
            "get": _operation(
                "metrics", "Figures for Prometheus.", {"text/plain": {"schema": {"type": "string"}}}
            )
        },
        "/openapi.json": {"get": _operation("openapi", "This document.", _json({"type": "object"}))},
    }


def _operation(
    name: str,
    summary: str,
    content: dict[str, Any],
    *errors: str,
    parameters: list[Any] | None = None,
    body: str = "",
    health: bool = False,
) -> dict[str, Any]:
    made: dict[str, Any] = {"operationId": name, "summary": summary}
    if parameters:
        made["parameters"] = parameters
    if body:
        made["requestBody"] = {"required": True, "content": _json(_ref(body))}
    made["responses"] = {"200": {"description": summary, "content": content}}
    if health:
        made["responses"]["503"] = {"description": "No.", "content": content}
    for status in errors:
        made["responses"][status] = _error(status)
    if "429" not in errors and not health and name != "metrics":
        made["responses"]["429"] = _error("429")
    made["responses"]["431"] = _error("431")
    return made


def _error(status: str) -> dict[str, Any]:
    return {"description": MEANINGS[status], "content": _json(_ref("Error"))}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _stream(description: str) -> dict[str, Any]:
    """Server-sent events; the schema is that of one event."""
    data = {"type": "string", "description": description}
    return {
        "text/event-stream": {
            "schema": {"type": "object", "properties": {"data": data}, "required": ["data"]}
        }
    }


def _script() -> dict[str, Any]:
    return {"application/javascript": {"schema": {"type": "string", "description": "callback({…});"}}}


def _query(name: str, description: str, **schema: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": {"type": "string", **schema}}


def _callback() -> dict[str, Any]:
    pattern = CALLBACK.pattern.replace(r"\w", "A-Za-z0-9_")
    return _query(
        "callback",
        "Function to call with the answer (JSONP).",
        pattern=f"^({pattern})?$",
        maxLength=LONGEST_CALLBACK,
    )


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _flag(name: str) -> dict[str, Any]:
    return {"type": "object", "properties": {name: {"type": "boolean"}}, "required": [name]}


def _open(*names: str) -> dict[str, Any]:
    return {"type": "object", "properties": {name: {} for name in names}, "required": list(names)}


def _schemas(settings: ServeSettings) -> dict[str, Any]:
    text, number, whole = {"type": "string"}, {"type": "number"}, {"type": "integer"}
    maybe_text, maybe_number = {"type": ["string", "null"]}, {"type": ["number", "null"]}
    logprobs = {
        "type": ["object", "null"],
        "properties": {
            "tokens": {"type": "array", "items": text},
            "token_logprobs": {"type": "array", "items": maybe_number},
            "top_logprobs": {
                "type": ["array", "null"],
                "items": {"type": ["object", "null"], "additionalProperties": number},
            },
            "text_offset": {"type": "array", "items": whole},
        },
    }
    choice = {
        "type": "object",
        "properties": {
            "index": whole,
            "text": text,
            "logprobs": logprobs,
            "finish_reason": {"type": ["string", "null"], "enum": ["stop", "length", None]},
            "ended_by": {
                **text,
                "description": "More exactly: length, stop, end_of_document, sentence, characters, deadline, shutdown.",
            },
        },
        "required": ["index", "text", "logprobs", "finish_reason"],
    }
    usage = _object(prompt_tokens=whole, completion_tokens=whole, total_tokens=whole)
    model = _object(id=text, object={"const": "model"}, created=whole, owned_by=text)
    details = _object(
        finish_reason=text, ended_by=text, seed=whole, prompt_tokens=whole, generated_tokens=whole
    )
    return {
        "CompletionRequest": parameters.completion(settings),
        "GenerationRequest": parameters.generation(settings),
        "Completion": _object(
            id=text,
            object={"const": "text_completion"},
            created=number,
            model=text,
            system_fingerprint=text,
            seed={**whole, "description": "Asked for with this seed, the text is the same again."},
            choices={"type": "array", "items": choice},
            usage=usage,
        ),
        "Generation": {
            "type": "object",
            "properties": {
                "id": text,
                "model_name": text,
                "model_version": maybe_text,
                "text_output": text,
                "details": details,
            },
            "required": ["model_name", "text_output"],
        },
        "Model": model,
        "Models": _object(object={"const": "list"}, data={"type": "array", "items": _ref("Model")}),
        "Error": _object(
            error=_object(message=text, type=text, param=maybe_text, code=maybe_text),
        ),
    }


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}
