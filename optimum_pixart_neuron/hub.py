"""What goes wrong between this machine and the Hugging Face Hub, in words and in kind.

huggingface_hub raises a dozen types with pages of text; users get one line. The same map serves downloads of
checkpoints, and artifacts on their way to the Hub and back.
"""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from traceback import walk_tb
from typing import TypeVar

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from requests.exceptions import ChunkedEncodingError, ConnectionError, HTTPError, Timeout
from urllib3.exceptions import MaxRetryError

from .errors import HubError

HUB_ERRORS = (OSError, ValueError, RuntimeError)
"""What huggingface_hub and hf_xet raise: all errors of HTTP are OSErrors, refused arguments ValueErrors."""

_LIBRARIES = ("huggingface_hub", "hf_xet", "requests")

_REASONS = (
    (HFValidationError, "is not an id of the Hugging Face Hub"),
    (LocalTokenNotFoundError, "there is no token; log in with `hf auth login` or set HF_TOKEN"),
    (GatedRepoError, "asks for its licence to be accepted on its page, by the owner of the token"),
    (RepositoryNotFoundError, "there is no such repository, or it is private and the token may not see it"),
    (RevisionNotFoundError, "there is no such revision"),
    (LocalEntryNotFoundError, "it is not in the download cache, and the Hub may not be asked"),
    (EntryNotFoundError, "there is no such file in the repository"),
    (OfflineModeIsEnabled, "HF_HUB_OFFLINE is set"),
)
_STATUSES = {
    401: "the token is not valid; log in with `hf auth login`",
    403: "the token may not do this",
    412: "somebody else pushed meanwhile; try again",
    429: "the Hub asks for fewer requests (status 429); try again later",
}
_PASSING_STATUSES = (408, 429, 500, 502, 503, 504)
_PAUSES_S = (1.0, 2.0, 4.0, 8.0)
"""Before each further try."""
_LONGEST_PAUSE_S = 60.0

_Result = TypeVar("_Result")
_log = logging.getLogger(__name__)
_REQUESTS = logging.getLogger("huggingface_hub.utils._http")
"""Who repeats requests there, and tells of each."""


def patiently(act: Callable[[], _Result], named: str) -> _Result:
    """Do something with the Hub, again and again while it is busy or connections break.

    huggingface_hub repeats single requests of an upload, and resumes a download whose connection times out, but no
    download that is refused or cut off (0.36). What it has of a file is kept, so each try goes on there.

    Raises:
        HubError: the last reason, behind the name of what was wanted. What our own code raises stays what it is.
    """
    for pause in (*_PAUSES_S, None):
        try:
            with quietly():
                return act()
        except HUB_ERRORS as error:
            if not of_hub(error):
                raise
            reason = hub_reason(error)
            if pause is None or not is_passing(error):
                raise HubError(f"{named}: {reason}") from None
            pause = min(max(pause, asked_to_wait(error)), _LONGEST_PAUSE_S)
            _log.warning("%s: %s; trying again in %.0f s", named, reason, pause)
            time.sleep(pause)
    raise AssertionError("the last try returns or raises")


@contextmanager
def quietly() -> Iterator[None]:
    """Have huggingface_hub draw its progress bars only where standard error is a terminal, and tell of no retries.

    Of each it logs the dump of an exception as a warning (0.36); what came of them is told by `hub_reason`. Whoever
    sets its verbosity to info or debug (`HF_HUB_VERBOSITY`) sees them.
    """
    silent = not (sys.stderr and sys.stderr.isatty()) and not are_progress_bars_disabled()
    if silent:
        disable_progress_bars()
    kept = _NoRetries()  # one for each, because these are nested
    _REQUESTS.addFilter(kept)
    try:
        yield
    finally:
        _REQUESTS.removeFilter(kept)
        if silent:
            enable_progress_bars()


class _NoRetries(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno != logging.WARNING or _REQUESTS.isEnabledFor(logging.INFO)


def why_unreachable(repo_id: str, revision: str | None, token: bool | str | None) -> OSError | None:
    """What keeps this machine from the Hub; None if it answers, whatever it says.

    huggingface_hub (0.36) asks for a repository once, but for a file six times in 23 s: ask this before the first.
    """
    for _ in range(2):  # where the Hub has gone meanwhile, a connection of before breaks first
        try:
            HfApi(token=token).model_info(repo_id, revision=revision, timeout=constants.HF_HUB_ETAG_TIMEOUT)
            return None
        except ConnectionError as error:
            if _never_reached(error):
                return error
        except HUB_ERRORS:
            return None
    return None


def of_hub(error: BaseException) -> bool:
    """Whether the system raised it, or what we call to speak with the Hub; a defect of our own is neither."""
    if isinstance(error, OSError) or type(error).__module__.partition(".")[0] in _LIBRARIES:
        return True
    packages = [frame.f_globals["__name__"].partition(".")[0] for frame, _ in walk_tb(error.__traceback__)]
    ours = [number for number, package in enumerate(packages) if package == __package__]
    below = packages[ours[-1] + 1 :] if ours else packages
    return bool(below) and below[0] in _LIBRARIES


def hub_reason(error: BaseException) -> str:
    """One line that follows the name of a repository and says why the Hub did not do what was asked."""
    cause = error.__cause__
    if isinstance(error, LocalEntryNotFoundError) and isinstance(cause, OSError):
        return f"it is not in the download cache, and {hub_reason(cause)}"
    for kind, reason in _REASONS:
        if isinstance(error, kind):
            return reason
    if isinstance(error, HTTPError) and error.response is not None:
        status = error.response.status_code
        return _STATUSES.get(status, f"the Hub answers with status {status}") + _said_by(error)
    if isinstance(error, ConnectionError) and _never_reached(error):
        return "the Hub cannot be reached"
    if isinstance(error, (ConnectionError, ChunkedEncodingError)):
        return "the connection to the Hub broke"
    if isinstance(error, Timeout):
        return "the Hub does not answer in time"
    line = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return f"{line.rstrip('.: ')}: {hub_reason(cause)}" if isinstance(cause, HUB_ERRORS) else line


def is_passing(error: BaseException) -> bool:
    """Whether the same request may well succeed a little later: the Hub is busy, or the connection broke.

    A Hub that was never reached is no such case: nothing says that it will be.
    """
    for link in _chain(error):
        if isinstance(link, HTTPError) and link.response is not None:
            return link.response.status_code in _PASSING_STATUSES
        if isinstance(link, ConnectionError):
            return not _never_reached(link)
        if isinstance(link, (ChunkedEncodingError, Timeout)):
            return True
    return False


def asked_to_wait(error: BaseException) -> float:
    """Seconds that the Hub asked to wait in its `Retry-After`; 0 where it did not, or gave a date."""
    for link in _chain(error):
        if isinstance(link, HTTPError) and link.response is not None:
            seconds = link.response.headers.get("Retry-After", "")
            return float(seconds) if seconds.isdecimal() else 0.0
    return 0.0


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _never_reached(error: ConnectionError) -> bool:
    """requests wraps the MaxRetryError of urllib3 only where no connection was made."""
    return isinstance(error, OfflineModeIsEnabled) or any(isinstance(part, MaxRetryError) for part in error.args)


def _said_by(error: HTTPError) -> str:
    said = getattr(error, "server_message", None)
    return f": {said.splitlines()[0]}" if said else ""
