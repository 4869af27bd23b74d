"""The scheduler, loaded and copied to the export."""

from __future__ import annotations

from ..component import Part
from .scheduler import CONFIGURATION, DEFAULT_CLASS, Scheduler

SCHEDULER = Part(
    name="scheduler",
    library="diffusers",
    class_name=DEFAULT_CLASS,
    configuration=CONFIGURATION,
    copied=Scheduler,
)
