"""The routes of the service, and what stands around them."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from textmill.serving import openapi
from textmill.serving.answers import Problem, answer
from textmill.serving.completions import Completions
from textmill.serving.guards import Access, Noted
from textmill.serving.inbox import ClientGone
from textmill.serving.kserve import KServe
from textmill.serving.metrics import CONTENT_TYPE
from textmill.serving.page_view import PAGE, Page
from textmill.serving.parameters import BadRequest
from textmill.serving.sample_api import SampleAPI
from textmill.serving.service import Service

CLIENT_GONE = 499  # as nginx logs it; nobody sees it


def make_app(service: Service, tokens: Sequence[str] = ()) -> Starlette:
    """The application of one service."""
    settings = service.settings
    ours, theirs, old, page = Completions(service), KServe(service), SampleAPI(service), Page(service)
    document = openapi.document(settings, service.name, secured=bool(tokens))

    async def home(request: Request) -> Response:
        if "sample" in request.query_params or "callback" in request.query_params:
            return await old.sample(request)
        return await page.home(request)

    async def metrics(request: Request) -> Response:
        return Response(service.engine.metrics.text(), headers={"content-type": CONTENT_TYPE})

    async def described(request: Request) -> Response:
        return answer(document)

    model = "/v2/models/{model}"
    routes: list[BaseRoute] = [
        Route("/", home, methods=["GET"]),
        Route("/mock", old.mock, methods=["GET"]),
        Route("/v1/completions", ours.completions, methods=["POST"]),
        Route("/v1/models", ours.models, methods=["GET"]),
        Route("/v1/models/{model:path}", ours.model, methods=["GET"]),
        Route("/v2", theirs.server, methods=["GET"]),
        Route("/v2/health/live", theirs.live, methods=["GET"]),
        Route("/v2/health/ready", theirs.ready, methods=["GET"]),
        Route(model, theirs.model, methods=["GET"]),
        Route(f"{model}/ready", theirs.model_ready, methods=["GET"]),
        Route(f"{model}/generate", theirs.generate, methods=["POST"]),
        Route(f"{model}/generate_stream", theirs.generate_stream, methods=["POST"]),
        Route("/metrics", metrics, methods=["GET"]),
        Route("/openapi.json", described, methods=["GET"]),
        Mount("/page", StaticFiles(directory=PAGE)),
    ]
    around = [Middleware(Noted, metrics=service.engine.metrics, leaving=lambda: service.leaving)]
    if settings.cors:
        around.append(
            Middleware(
                CORSMiddleware,
                allow_origins=settings.cors,
                allow_methods=["GET", "POST"],
                allow_headers=["*"],
                expose_headers=["X-Request-Id", "Retry-After"],
            )
        )
    around.append(Middleware(Access, tokens=tokens, rate_limit=settings.rate_limit))
    handlers = {
        Problem: _problem,
        BadRequest: _bad_request,
        ClientGone: _gone,
        HTTPException: _http,
    }
    app = Starlette(routes=routes, middleware=around, exception_handlers=handlers)  # type: ignore[arg-type]
    app.router.redirect_slashes = False
    return app


async def _problem(request: Request, error: Problem) -> Response:
    return error.answer()


async def _bad_request(request: Request, error: BadRequest) -> Response:
    return Problem(400, str(error), param=error.param, code=error.code).answer()


async def _gone(request: Request, error: ClientGone) -> Response:
    return Response(status_code=CLIENT_GONE)


async def _http(request: Request, error: HTTPException) -> Response:
    said = {404: "there is nothing at this path.", 405: "this path does not take this method."}
    message = said.get(error.status_code, error.detail)
    return Problem(error.status_code, message, headers=error.headers).answer()
