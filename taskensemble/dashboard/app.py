"""The dashboard's server: a small ASGI application.

    /                          the page
    /api/overview              runs and workers
    /api/runs/<id>             one run with its entities and a letter for each member
    /api/runs/<id>/table       rows for the table, the plots and the time line
    /api/runs/<id>/log/<i>     the end of a member's log; ?stream=out|err
    /api/databases             databases and their models
    /api/live?run=<id>         server-sent events: `overview`, `run` and `databases`, each when it has changed

Everything asks for the name and password that the command printed (HTTP basic authentication). The page may load and ask nothing
but this server: what members write into logs and names is shown as text, and could reach nobody if it ever were not.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from sse_starlette.sse import EventSourceResponse
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from taskensemble.dashboard import snapshot
from taskensemble.engine.store import Store
from taskensemble.errors import RunNotFoundError
from taskensemble.results import finite

STATIC = Path(str(files("taskensemble.dashboard") / "static"))
INTERVAL = 1.0
"""Seconds between two looks at the store for the live view."""

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""What every answer tells the browser: load and ask this server alone, be in nobody's frame, guess no types."""


class SafeHeaders:
    """Puts `HEADERS` into every answer, refusals among them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
                # Logs and parameters are for whoever has the password, not for a cache on the way.
                if scope["path"].startswith("/api/"):
                    MutableHeaders(scope=message)["Cache-Control"] = "no-store"
            await send(message)

        await self._app(scope, receive, send_with_headers)


class BasicAuthentication(BaseHTTPMiddleware):
    """Lets in who knows the name and the password."""

    def __init__(self, app: Any, user: str, password: str) -> None:
        super().__init__(app)
        self._expected = f"{user}:{password}".encode()

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        with contextlib.suppress(ValueError):  # no Base64, or no ASCII
            if scheme.lower() == "basic" and secrets.compare_digest(base64.b64decode(given), self._expected):
                return await call_next(request)
        challenge = {"WWW-Authenticate": 'Basic realm="taskensemble"'}
        return Response("The dashboard asks for the name and password it printed.", 401, headers=challenge)


def create_app(store: Store, user: str, password: str) -> Starlette:
    """The application that shows the runs of `store` to whoever knows `user` and `password`."""

    def answer(read: Callable[[Request], Any]) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            try:
                # The store's client blocks: it may not hold up the other pages.
                return JSONResponse(finite(await asyncio.to_thread(read, request)))
            except RunNotFoundError as error:
                return JSONResponse({"error": str(error)}, status_code=404)

        return endpoint

    def log(request: Request) -> dict[str, Any]:
        stream = "err" if request.query_params.get("stream") == "err" else "out"
        return snapshot.log_tail(store, request.path_params["run"], request.path_params["index"], stream)

    async def page(_: Request) -> Response:
        return FileResponse(STATIC / "index.html")

    async def live(request: Request) -> Response:
        return EventSourceResponse(_changes(store, request.query_params.get("run")))

    return Starlette(
        routes=[
            Route("/", page),
            Route("/api/overview", answer(lambda _: snapshot.overview(store))),
            Route("/api/runs/{run}", answer(lambda r: snapshot.run_detail(store, r.path_params["run"]))),
            Route("/api/runs/{run}/table", answer(lambda r: snapshot.member_table(store, r.path_params["run"]))),
            Route("/api/runs/{run}/log/{index:int}", answer(log)),
            Route("/api/databases", answer(lambda _: snapshot.databases(store))),
            Route("/api/live", live),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        middleware=[Middleware(SafeHeaders), Middleware(BasicAuthentication, user=user, password=password)],
    )


async def _changes(store: Store, run_id: str | None) -> AsyncIterator[dict[str, str]]:
    """What has changed since the last look, for as long as the page listens."""
    sources: dict[str, Callable[[], Any]] = {
        "overview": partial(snapshot.overview, store),
        "databases": partial(snapshot.databases, store),
    }
    if run_id:
        sources["run"] = partial(snapshot.run_detail, store, run_id)
    last: dict[str, str] = {}
    while True:
        for name, read in sources.items():
            try:
                text = json.dumps(await asyncio.to_thread(read))
            except RunNotFoundError as error:
                text = json.dumps({"error": str(error)})
            if last.get(name) != text:
                last[name] = text
                yield {"event": name, "data": text}
        await asyncio.sleep(INTERVAL)
