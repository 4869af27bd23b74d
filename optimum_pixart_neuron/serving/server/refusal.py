"""What a client is told when it gets no picture, in the form of OpenAI's API.

Form: an object `error` of message, type, param and code (OpenAI API reference, "Error codes"; `openai` 3.57 reads it).
"""

from __future__ import annotations

from typing import Any

INVALID, BUSY, SERVER = "invalid_request_error", "rate_limit_error", "server_error"


class Refusal(Exception):
    """An answer without a picture.

    Args:
        status: of HTTP.
        message: one sentence; names value, limit and what can be asked instead.
        param: the field of the request that it is about.
        code: for programs.
        retry_after: seconds, where the same request may well succeed later.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.param, self.code, self.retry_after = status, param, code, retry_after

    @property
    def body(self) -> dict[str, Any]:
        """As JSON."""
        kind = BUSY if self.status == 429 else SERVER if self.status >= 500 else INVALID
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}

    @property
    def headers(self) -> dict[str, str]:
        """Of HTTP."""
        return {} if self.retry_after is None else {"retry-after": str(self.retry_after)}
