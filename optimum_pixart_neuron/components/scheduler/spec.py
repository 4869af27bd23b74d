"""The scheduler, copied to the export as it is."""

from __future__ import annotations

from ..component import Part

SCHEDULER = Part(
    name="scheduler",
    library="diffusers",
    class_name="DPMSolverMultistepScheduler",
    configuration="scheduler_config.json",
)
