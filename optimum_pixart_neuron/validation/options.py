"""Options of the comparison with the originals."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ..options import Count, Flag, Options


class ToleranceOptions(Options):
    """What may differ, after an export and in `pixart-validate`."""

    atol: Annotated[float | None, Flag(group="Validation")] = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description=(
            "Largest absolute difference from the original that is allowed, in place of every limit; default: by the"
            " rounding of bfloat16."
        ),
    )
    steps: Annotated[Count | None, Flag(group="Validation")] = Field(
        None,
        description=(
            "Also compare a whole schedule of so many denoising steps, each from the original's latents; the original"
            " runs them all, which takes its time."
        ),
    )
