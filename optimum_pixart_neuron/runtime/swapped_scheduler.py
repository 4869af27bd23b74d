"""The scheduler that a user put in place of the one an export was made with, as files of the export."""

import json
from pathlib import Path
from typing import Any

import diffusers
from diffusers import SchedulerMixin

from ..artifact.compiled import AGAIN
from ..checkpoint.layout import INDEX
from ..components.scheduler.spec import SCHEDULER
from ..errors import ArtifactError, InvalidArgument
from ..files import read_json


def settings_of(scheduler: Any) -> tuple[type, dict[str, Any]]:
    """What makes a scheduler the same as another one."""
    return type(scheduler), dict(scheduler.config) if isinstance(scheduler, SchedulerMixin) else {}


def scheduler_files(folder: Path, scheduler: Any) -> dict[str, bytes]:
    """The files of an export that name a scheduler and hold its settings, as they are for this one, by path.

    Raises:
        InvalidArgument: it is not one of diffusers' own, which are all that an export may name.
        ArtifactError: the index of the export cannot be read.
    """
    kind = type(scheduler)
    if getattr(diffusers, kind.__name__, None) is not kind:
        raise InvalidArgument(
            f"scheduler: {kind.__module__}.{kind.__name__} is not diffusers' own, and no export loads other code; give"
            " the pipeline one of diffusers before saving it"
        )
    index = read_json(folder / INDEX, ArtifactError, advice=AGAIN)
    index[SCHEDULER.name] = [SCHEDULER.library, kind.__name__]
    return {
        f"{SCHEDULER.name}/{SCHEDULER.configuration}": scheduler.to_json_string().encode(),
        INDEX: f"{json.dumps(index, indent=2)}\n".encode(),
    }
