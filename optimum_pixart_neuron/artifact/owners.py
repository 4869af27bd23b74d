"""Whose programs are loaded: a digest says that a file is the owner's, not that the owner means well."""

from __future__ import annotations

import logging
from collections.abc import Collection

from ..errors import HubError, InvalidArgument

ARCHIVE_RISK = (
    "a program is a TorchScript archive, and code in it runs while it is loaded: it can read and write whatever the"
    " user who loads it can, and no check of this package changes that"
)
"""One sentence for the warning, the card and the manual."""

_log = logging.getLogger(__name__)


def check_owner(repo_id: str, trusted_owners: Collection[str] | None) -> None:
    """Refuse a repository of the Hub that belongs to somebody else than the trusted owners; without them, warn.

    Args:
        repo_id: "owner/name"; what has no owner in its id belongs to nobody who could be trusted.
        trusted_owners: users and organizations, spelled as the Hub does; None to load anybody's.

    Raises:
        InvalidArgument: `trusted_owners` is not a collection of names.
        HubError: the owner is not among them; nothing was downloaded.
    """
    owner = repo_id.split("/")[0] if "/" in repo_id else None
    if trusted_owners is None:
        _log.warning(
            "%s belongs to %s: %s; from_pretrained(..., trusted_owners=[...]) refuses all other owners",
            repo_id,
            owner or "no named owner",
            ARCHIVE_RISK,
        )
        return
    listed = isinstance(trusted_owners, Collection) and not isinstance(trusted_owners, str)
    if not listed or not all(isinstance(name, str) for name in trusted_owners):
        raise InvalidArgument(f"trusted_owners: expected a list of names on the Hub, given {trusted_owners!r}")
    if owner not in trusted_owners:
        trusted = ", ".join(trusted_owners) or "nobody"
        raise HubError(
            f"{repo_id} belongs to {owner or 'no named owner'}, and trusted_owners are {trusted}; nothing was"
            " downloaded"
        )
