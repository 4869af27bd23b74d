"""What every request passes before it is read: size and speed of its body, and its key. A plain ASGI middleware."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import AsyncIterator, Sequence

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .refusal import Refusal

_BODY_TIMEOUT_S = 30.0
"""For a client to send the whole of its request; the largest is small."""
_DISCARDED_BYTES, _DISCARD_TIMEOUT_S = 1 << 20, 1.0
"""Of a refused request, at most. Closing on what a client has sent unread resets the connection under the answer."""
_WITH_KEY = "/v1/"
FILES = "/v1/images/files/"
"""Addresses below it are secrets themselves, for as long as they live."""
_CLOSED = ("/gradio_api/upload", "/upload")
"""Gradio would take files from anybody; the page needs none."""


class _ClientLeft(Exception):
    """Before the body was whole."""


class Gate:
    """Lets requests pass that are whole, small enough, and have a key where one is asked for.

    Args:
        keys: of which a request below /v1/ must have one; empty where any key will do.
    """

    def __init__(self, app: ASGIApp, *, max_body_bytes: int, keys: Sequence[str] = ()) -> None:
        self._app = app
        self._most = max_body_bytes
        self._keys = [key.encode() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        whole = False

        async def noted() -> Message:
            nonlocal whole
            message = await receive()
            whole = message["type"] == "http.disconnect" or not message.get("more_body")
            return message

        try:
            self._check_key(scope)
            if scope["path"].startswith(_CLOSED):
                raise Refusal(404, "nothing is uploaded here", code="not_found")
            body = await self._read(scope, noted)
        except Refusal as refusal:
            if not whole:
                await _discard(receive)
            # What is left of the body stays unread, so the connection cannot be used again.
            headers = {**refusal.headers, "connection": "close"}
            await JSONResponse(refusal.body, refusal.status, headers)(scope, receive, send)
            return
        if body is not None:
            await self._app(scope, _replay(body, receive), send)

    def _check_key(self, scope: Scope) -> None:
        path = scope["path"]
        if not self._keys or not path.startswith(_WITH_KEY) or path.startswith(FILES):
            return
        given = dict(scope["headers"]).get(b"authorization", b"")
        kind, _, key = given.partition(b" ")
        fits = [hmac.compare_digest(key.strip(), known) for known in self._keys]
        if kind.lower() != b"bearer" or not any(fits):
            raise Refusal(401, "the request has no valid API key (Authorization: Bearer KEY)", code="invalid_api_key")

    async def _read(self, scope: Scope, receive: Receive) -> bytes | None:
        """The whole body; None where the client left before it was whole."""
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if not length.isdigit() or int(length[:20]) > self._most:
            raise self._too_large()

        async def kept() -> bytes:
            content = bytearray()
            async for piece in _pieces(receive):
                content += piece
                if len(content) > self._most:
                    raise self._too_large()
            return bytes(content)

        try:
            return await asyncio.wait_for(kept(), _BODY_TIMEOUT_S)
        except _ClientLeft:
            return None
        except asyncio.TimeoutError:
            raise Refusal(408, f"the request was not whole after {_BODY_TIMEOUT_S:.0f} s", code="timeout") from None

    def _too_large(self) -> Refusal:
        return Refusal(413, f"the request is larger than {self._most} bytes", code="request_too_large")


async def _discard(receive: Receive) -> None:
    """Read what is left of a small body; nothing of a client that sends slowly is waited for long."""

    async def dropped() -> None:
        left = _DISCARDED_BYTES
        async for piece in _pieces(receive):
            left -= len(piece)
            if left <= 0:
                return

    with contextlib.suppress(asyncio.TimeoutError, _ClientLeft):
        await asyncio.wait_for(dropped(), _DISCARD_TIMEOUT_S)


async def _pieces(receive: Receive) -> AsyncIterator[bytes]:
    """The body, as it comes."""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _ClientLeft
        yield message.get("body", b"")
        more = message.get("more_body", False)


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body in one piece, and then what else comes."""
    given = False

    async def replayed() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed
