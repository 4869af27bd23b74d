"""The server's HTTP, over engines that may be anywhere."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from typing import Any, TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException

from ...errors import printable
from ..drawer import CannotDraw
from ..encoding import FORMATS
from .asked import ImageRequest, size_name
from .gate import FILES, Gate
from .measured import Measured
from .messages import Drawn, EngineLost, Step
from .model import Model
from .options import ServeOptions
from .refusal import Refusal
from .shelf import Shelf

GENERATE = "/v1/images/generations"
_RETRY_AFTER_S = 5
_HEALTH_TIMEOUT_S = 5.0
_STARTING = "starting"
_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")


class Api:
    """Answers requests.

    Args:
        models: what can be asked for, by name; the first is what a request without a name gets.
        options: limits and defaults.
    """

    def __init__(self, models: Mapping[str, Model], options: ServeOptions) -> None:
        self._models = models
        self.options = options
        self._measured = Measured()
        self._shelf = Shelf()
        self._draining = False

    async def drain(self, seconds: float) -> bool:
        """Take no further requests, and wait until the ones that are here are answered; whether all were in time."""
        self._draining = True
        end = time.monotonic() + seconds
        while any(model.open for model in self._models.values()):
            if time.monotonic() > end:
                return False
            await asyncio.sleep(0.05)
        return True

    def routes(self, keys: Sequence[str] = ()) -> FastAPI:
        """The application.

        Args:
            keys: of which requests below /v1/ must have one; empty where any will do.
        """
        app = FastAPI(title="PixArt on Neuron", docs_url=None, redoc_url=None, openapi_url=None)
        app.add_middleware(Gate, max_body_bytes=self.options.max_body_bytes, keys=keys)
        for kind in (Refusal, HTTPException, Exception):
            app.add_exception_handler(kind, _refuse)
        app.add_api_route(GENERATE, self._generate, methods=["POST"])
        app.add_api_route(f"{FILES}{{name}}", self._file, methods=["GET"])
        app.add_api_route("/v1/models", self._list, methods=["GET"])
        app.add_api_route("/v1/models/{name:path}", self._describe, methods=["GET"])
        app.add_api_route("/v1/{rest:path}", _no_route, methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
        app.add_api_route("/health", self._health, methods=["GET"])
        app.add_api_route("/metrics", self._metrics, methods=["GET"])
        return app

    async def _generate(self, request: Request) -> Response:
        started = time.monotonic()
        name = next(iter(self._models))
        try:
            if self._draining:
                raise Refusal(503, "the server is shutting down", code="shutting_down", retry_after=_RETRY_AFTER_S)
            asked = ImageRequest.read(await request.body())
            model = self._model(asked.model)
            name = model.exported.name
            pictures = asked.pictures(model.exported, self.options)
            model.enter(self.options.max_requests, _RETRY_AFTER_S)
        except Refusal as refusal:
            self._measured.answered(name, refusal.status)
            raise
        self._measured.opened(name, 1)
        answer = _Answer(self, model, asked, pictures, started, str(request.base_url))
        if asked.stream:
            return _Stream(answer)
        try:
            return await answer.whole(request)
        finally:
            answer.close()

    def _model(self, name: str | None) -> Model:
        if name is None:
            return next(iter(self._models.values()))
        if name not in self._models:
            raise Refusal(404, f"model: there are {', '.join(self._models)}", param="model", code="model_not_found")
        return self._models[name]

    async def _file(self, name: str) -> Response:
        content = self._shelf.get(name)
        if content is None:
            raise Refusal(404, "there is no such image, or no more", code="not_found")
        kind = next(kind for kind in FORMATS.values() if name.endswith(kind.suffix))
        return Response(content, media_type=kind.mime, headers={"cache-control": "private, max-age=3600"})

    async def _list(self) -> dict[str, Any]:
        return {"object": "list", "data": [model.described for model in self._models.values()]}

    async def _describe(self, name: str) -> dict[str, Any]:
        return self._model(name).described

    async def _health(self) -> Response:
        """200 when every export can draw; 503 tells which cannot, and why."""
        problems = await asyncio.gather(*(_problem(model) for model in self._models.values()))
        found = {name: problem or "ready" for name, problem in zip(self._models, problems)}
        status = 503 if self._draining or any(problems) else 200
        word = "draining" if self._draining else _STARTING if _STARTING in problems else "serving"
        return JSONResponse({"status": word, "models": found}, status)

    async def _metrics(self) -> Response:
        return Response(self._measured.text(), media_type="text/plain; version=0.0.4")

    # What `_Answer` needs of the server.

    def finished(self, model: Model, status: int, seconds: float | None = None) -> None:
        """Count a request that had been let in."""
        model.leave()
        self._measured.opened(model.exported.name, -1)
        self._measured.answered(model.exported.name, status, seconds)

    def shown(self, model: Model, asked: ImageRequest, drawn: Drawn, seed: int, steps: int, base: str) -> dict:
        """One element of a response's `data`."""
        self._measured.drawn(model.exported.name, steps, drawn.together)
        if asked.response_format == "url":
            name = self._shelf.put(drawn.content, FORMATS[asked.image_format].suffix)
            return {"url": f"{base.rstrip('/')}{FILES}{name}", "seed": seed}
        return {"b64_json": base64.b64encode(drawn.content).decode(), "seed": seed}


class _Answer:
    """One request that was let in, until it is answered."""

    def __init__(self, api: Api, model: Model, asked: ImageRequest, pictures: list, started: float, base: str) -> None:
        self._api, self._model, self._asked, self._pictures = api, model, asked, pictures
        self._started, self._base = started, base
        self._until = started + api.options.request_timeout
        self._status = 499  # nginx's number for a client that left
        self._seconds: float | None = None
        self._open = True

    def close(self) -> None:
        """Count the request as answered; to be called at every end, and more than once does no harm."""
        if self._open:
            self._open = False
            self._api.finished(self._model, self._status, self._seconds)

    async def whole(self, request: Request) -> Response:
        """All images in one response."""
        drawing = self._model.engine.draw(self._pictures, self._asked.image_format)
        try:
            drawn = await self._in_time(_while_connected(request, drawing))
        except _ClientLeft:
            return Response(status_code=self._status)
        except Exception as error:
            refusal = _as_refusal(error)
            self._status = refusal.status
            raise refusal from error
        data = [self._shown(each) for each in drawn]
        self._succeed()
        return JSONResponse({"created": int(time.time()), **self._settings(), "data": data})

    async def events(self) -> AsyncIterator[str]:
        """Server-sent events: every step, then each image, as OpenAI names them; an error as one more event."""
        watching = self._model.engine.watch(self._pictures, self._asked.image_format)
        try:
            while (news := await self._in_time(_next(watching))) is not None:
                if isinstance(news, Step):
                    kind = "image_generation.step"
                    yield _event(kind, {"index": news.number, "step": news.step, "of": news.of})
                else:
                    image = {"index": news.number, "created_at": int(time.time()), **self._settings()}
                    yield _event("image_generation.completed", {**image, **self._shown(news)})
            self._succeed()
            yield "data: [DONE]\n\n"
        except Exception as error:
            refusal = _as_refusal(error)
            self._status = refusal.status
            yield f"event: error\ndata: {json.dumps(refusal.body)}\n\n"
        finally:
            await watching.aclose()

    def _succeed(self) -> None:
        self._status, self._seconds = 200, time.monotonic() - self._started

    async def _in_time(self, waiting: Awaitable[_Result]) -> _Result:
        return await asyncio.wait_for(waiting, max(self._until - time.monotonic(), 0))

    def _shown(self, drawn: Drawn) -> dict[str, Any]:
        picture = self._pictures[drawn.number]
        return self._api.shown(self._model, self._asked, drawn, picture.seed, picture.kind.steps, self._base)

    def _settings(self) -> dict[str, Any]:
        kind = self._pictures[0].kind
        return {"size": size_name((kind.height, kind.width)), "output_format": self._asked.output_format}


class _Stream(StreamingResponse):
    """The events of an answer. Its client may leave before the first, so the end is counted here."""

    def __init__(self, answer: _Answer) -> None:
        super().__init__(answer.events(), media_type="text/event-stream", headers={"cache-control": "no-store"})
        self._answer = answer

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._answer.close()


class _ClientLeft(Exception):
    pass


async def _while_connected(request: Request, drawing: Awaitable[_Result]) -> _Result:
    """Await `drawing`; cancel it when the client leaves, which raises _ClientLeft."""
    task = asyncio.ensure_future(drawing)
    leaving = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise _ClientLeft
        return task.result()
    finally:
        for each in (task, leaving):
            each.cancel()
        await asyncio.gather(task, leaving, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _next(watching: AsyncIterator[_Result]) -> _Result | None:
    return await anext(watching, None)


async def _problem(model: Model) -> str | None:
    try:
        problem = await asyncio.wait_for(model.engine.problem(), _HEALTH_TIMEOUT_S)
    except asyncio.TimeoutError:
        return "does not answer" if model.answered else _STARTING
    except EngineLost as error:
        return str(error)
    model.answered = True
    return problem


def _as_refusal(error: Exception) -> Refusal:
    """What went wrong with a request; a fault of this code is logged, and told without its details."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, HTTPException):
        return Refusal(error.status_code, str(error.detail), code="not_found" if error.status_code == 404 else None)
    if isinstance(error, CannotDraw):
        return Refusal(400, str(error), code="invalid_value")
    if isinstance(error, asyncio.TimeoutError):
        return Refusal(504, "the image was not drawn in time; the server is busy", code="timeout")
    if isinstance(error, EngineLost):
        message = "the pipeline failed and is being replaced; try again"
        return Refusal(503, message, code="unavailable", retry_after=_RETRY_AFTER_S)
    _log.error("a request failed", exc_info=error)
    return Refusal(500, "the server failed", code="internal_error")


def _event(kind: str, content: dict[str, Any]) -> str:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **content})}\n\n"


async def _refuse(_request: Request, error: Exception) -> Response:
    refusal = _as_refusal(error)
    return JSONResponse(refusal.body, refusal.status, getattr(error, "headers", None) or refusal.headers)


async def _no_route(rest: str) -> Response:
    if f"/v1/{rest}" == GENERATE:
        raise Refusal(405, "images are asked for with POST", code="method_not_allowed")
    raise Refusal(404, f"there is no /v1/{printable(rest)}", code="not_found")
