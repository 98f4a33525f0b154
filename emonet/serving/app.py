"""The application: every path of the HTTP server, behind its guards, as FastAPI documents it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html import escape
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp
from starlette.websockets import WebSocket

from emonet.errors import EmonetError
from emonet.serving.answers import Health, ModelFacts, ModelsAnswer, OfferedModel
from emonet.serving.guards import AUTHORISED, Doors, Guard, Keys, Limits, Refusal
from emonet.serving.metrics import CONTENT_TYPE
from emonet.serving.page import ABOUT
from emonet.serving.page import router as site
from emonet.serving.recordings import REFUSALS
from emonet.serving.recordings import router as recordings
from emonet.serving.service import Service, state_of
from emonet.serving.streams import router as streams
from emonet.serving.timelines import router as timelines
from emonet.version import __version__

_NO_OUTSIDE = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"
_NOT_FOUND, _NOT_ALLOWED = 404, 405


def application(service: Service) -> ASGIApp:
    """All of the server as an ASGI application; the service starts and ends with it.

    Raises:
        RequestError: if an origin that is to be allowed is none.
    """
    settings = service.settings
    inner = FastAPI(
        title="emonet", version=__version__, description=ABOUT, docs_url=None, redoc_url=None, lifespan=_lifespan
    )
    inner.state.service = service
    for router in (site, recordings, timelines, streams):
        inner.include_router(router)
    _add_paths(inner)
    inner.add_exception_handler(Refusal, _refused)
    inner.add_exception_handler(EmonetError, _failed)
    inner.add_exception_handler(HTTPException, _of_starlette)
    inner.add_exception_handler(RequestValidationError, _invalid)
    inner.add_exception_handler(Exception, _broken)
    outer: ASGIApp = Limits(inner, settings)
    outer = Keys(outer, service.tokens, settings.root_path)
    outer = Doors(outer, settings.host, settings.allow_hosts, settings.allow_origins)
    outer = Guard(outer, service.metrics.observe)
    if settings.allow_origins:
        origins = [origin.lower() for origin in settings.allow_origins]
        headers = ["Authorization", "Content-Type"]
        outer = CORSMiddleware(outer, allow_origins=origins, allow_methods=["GET", "POST"], allow_headers=headers)
    return outer


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service = state_of(app)
    service.start()
    try:
        yield
    finally:
        await asyncio.to_thread(service.stop)


def _add_paths(app: FastAPI) -> None:
    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(_page(app.openapi()), headers={"Content-Security-Policy": _NO_OUTSIDE})

    @app.get("/v1/models", summary="The models that a request may name", responses=REFUSALS)
    async def models() -> ModelsAnswer:
        """The first one answers where a request names none."""
        service = state_of(app)
        offered = tuple(OfferedModel.of(one.name, one.current) for one in service.models)
        return ModelsAnswer(models=offered, captions=service.captions is not None)

    @app.get("/health", summary="How the server is")
    async def health(request: Request) -> Health:
        """Status 200 as long as it answers; without a token, where one is wanted, the status alone."""
        return _health(state_of(app), authorised=bool(getattr(request.state, AUTHORISED, False)))

    @app.get("/metrics", summary="Metrics for Prometheus", response_class=Response)
    async def metrics() -> Response:
        service = state_of(app)
        facts = {key: str(value or "") for key, value in ModelFacts.of(service.model.current).model_dump().items()}
        return Response(service.metrics.text(facts), media_type=CONTENT_TYPE)


def _health(service: Service, *, authorised: bool) -> Health:
    status: Any = "stopping" if service.closing.is_set() else "degraded" if service.problems else "ok"
    if not authorised:
        return Health(status=status)
    model = service.model.current
    return Health(
        status=status,
        problems=service.problems,
        model=ModelFacts.of(model),
        loaded=model.since.isoformat(timespec="seconds"),
        targets=model.pipeline.targets,
        window_seconds=model.pipeline.encoder.window.seconds,
        captions=service.captions is not None,
    )


async def _refused(connection: HTTPConnection, refusal: Exception) -> Response:
    """Of a WebSocket it passes on: the guard answers."""
    assert isinstance(refusal, Refusal)
    if isinstance(connection, WebSocket):
        raise refusal
    return Response(refusal.body, refusal.status, dict(refusal.headers), "application/json")


async def _failed(connection: HTTPConnection, error: Exception) -> Response:
    assert isinstance(error, EmonetError)
    return await _refused(connection, Refusal.of(error, 503))


async def _broken(connection: HTTPConnection, error: Exception) -> Response:  # noqa: ARG001  # the guard logs it
    return await _refused(connection, Refusal(500, "the server has failed at this request; its log says why"))


async def _of_starlette(connection: HTTPConnection, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    hint = "the paths: /docs" if error.status_code in (_NOT_FOUND, _NOT_ALLOWED) else None
    return await _refused(
        connection, Refusal(error.status_code, str(error.detail), hint=hint, headers=error.headers or {})
    )


async def _invalid(connection: HTTPConnection, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    told = [f"{'.'.join(str(one) for one in found['loc'][1:])}: {found['msg']}" for found in error.errors()]
    return await _refused(connection, Refusal(400, "; ".join(told[:5]), hint="what may stand there: /docs"))


def _page(schema: dict[str, Any]) -> str:
    """The paths in plain HTML: a page of Swagger or ReDoc would be loaded from somebody else's server."""
    rows = [
        f"<tr><td><code>{method.upper()} {escape(path)}</code></td><td>{escape(found.get('summary', ''))}. "
        f"{escape(found.get('description', ''))}</td><td>{_parameters(found)}</td></tr>"
        for path, methods in schema["paths"].items()
        for method, found in methods.items()
    ]
    stream = (
        "first a message of JSON: {&quot;rate&quot;: 16000}; then samples; {&quot;type&quot;: &quot;end&quot;} ends it"
    )
    rows.append(f"<tr><td><code>WebSocket /v1/stream</code></td><td>Live sound: {stream}</td><td></td></tr>")
    style = "body{font-family:sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}"
    style += "td{vertical-align:top;padding:.5rem;border-top:1px solid #8888}"
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>emonet {__version__}</title><style>{style}</style>"
        f"<h1>emonet {__version__}</h1><p>{escape(schema['info']['description'])}</p>"
        f'<p>The whole description: <a href="openapi.json">openapi.json</a></p><table>{"".join(rows)}</table></html>'
    )


def _parameters(found: dict[str, Any]) -> str:
    lines = [
        f"<code>{escape(one['name'])}</code> {escape(one.get('description', ''))}"
        for one in found.get("parameters", ())
        if one["in"] == "query"
    ]
    return "<br>".join(lines)
