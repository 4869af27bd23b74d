"""Few-step checkpoints: with how many steps, at which timesteps and with which guidance a distilled one is called.

What was asked of the export goes first, then what the class of the checkpoint's scheduler says, then the table below
by the repository that the transformer, or a LoRA for it, comes from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from ..components.registry import DENOISER
from ..components.scheduler.scheduler import Scheduler
from ..components.scheduler.spec import SCHEDULER
from ..errors import CheckpointError, InvalidExportOption
from ..options import Flag, Options
from .address import Address
from .layout import ALPHA
from .options import listed
from .sources import Source

if TYPE_CHECKING:
    from .checkpoint import PixArtCheckpoint

MOST_STEPS = 1000
"""Of a schedule: the timesteps that PixArt was trained with."""
_GROUP = "Defaults of a call"
_Steps = Annotated[int, Field(ge=1, le=MOST_STEPS)]
_Timesteps = Annotated[tuple[Annotated[int, Field(ge=0, le=MOST_STEPS - 1)], ...], Field(max_length=MOST_STEPS)]
_Scale = Annotated[float, Field(ge=0, le=MOST_STEPS, allow_inf_nan=False)]
_Word = Annotated[str, Field(max_length=4096)]


@dataclass(frozen=True, kw_only=True)
class _Distilled:
    """What a kind of checkpoint was distilled for.

    Attributes:
        steps: denoising steps.
        guidance_scale: up to 1 nothing is guided.
        timesteps: of the steps; empty where the scheduler chooses them.
        scheduler: class in place of the checkpoint's scheduler; None where it brings the right one.
        settings: of that class, beside those of the checkpoint's.
        components_model: what completes the transformer, where it alone does not tell.
    """

    steps: int
    guidance_scale: float
    timesteps: tuple[int, ...] = ()
    scheduler: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    components_model: str | None = None


_LCM = "LCMScheduler"
_V_PREDICTION = {"prediction_type": "v_prediction"}

BY_SCHEDULER: Mapping[str, _Distilled] = {
    _LCM: _Distilled(steps=4, guidance_scale=0.0),  # model card of PixArt-alpha/PixArt-LCM-XL-2-1024-MS
}
"""By the class of the scheduler."""

BY_REPOSITORY: Mapping[str, _Distilled] = {
    "PixArt-alpha/PixArt-LCM-XL-2-1024-MS": _Distilled(steps=4, guidance_scale=0.0),  # its model card
    # PixArt-Sigma's repository, `app/app_pixart_dmd.py`; its scheduler is a DDPMScheduler.
    "PixArt-alpha/PixArt-Alpha-DMD-XL-2-512x512": _Distilled(
        steps=1, guidance_scale=1.0, timesteps=(400,), components_model=ALPHA.components_model
    ),
    # Distilled for one step from the same timestep as DMD.
    "amd/Nitro-1-PixArt": _Distilled(steps=1, guidance_scale=0.0, timesteps=(400,)),
    # Flash Diffusion, a LoRA, as public code calls it (Woolverine94/biniou `webui.py`, 4 steps without guidance).
    "jasperai/flash-pixart": _Distilled(
        steps=4, guidance_scale=0.0, scheduler=_LCM, settings={"timestep_spacing": "trailing"}
    ),
    # YOSO, transformers alone, likewise (one step, LCM).
    "Luo-Yihong/yoso_pixart512": _Distilled(
        steps=1,
        guidance_scale=1.0,
        scheduler=_LCM,
        settings=_V_PREDICTION,
        components_model=ALPHA.components_model,
    ),
    "Luo-Yihong/yoso_pixart1024": _Distilled(steps=1, guidance_scale=1.0, scheduler=_LCM, settings=_V_PREDICTION),
}
"""By the id on the Hub; where a transformer or a LoRA lies in a folder of this machine, nobody knows it."""


def _falling(timesteps: tuple[int, ...]) -> tuple[int, ...]:
    if any(later >= earlier for earlier, later in pairwise(timesteps)):
        raise ValueError("timesteps fall from step to step")
    return timesteps


class CallOptions(Options):
    """What a call of the exported pipeline does where its arguments do not say."""

    default_steps: Annotated[_Steps | None, Flag(group=_GROUP)] = Field(
        None,
        description="Denoising steps of a call that names none; default: as the checkpoint was distilled, or 20.",
    )
    default_timesteps: Annotated[
        _Timesteps,
        BeforeValidator(listed),
        AfterValidator(_falling),
        Flag(nargs="+", metavar="TIMESTEP", group=_GROUP),
    ] = Field(
        (),
        description="Timesteps of such a call, falling, in place of the scheduler's; default: as distilled, if any.",
    )
    default_guidance_scale: Annotated[_Scale | None, Flag(group=_GROUP)] = Field(
        None,
        description="Guidance scale of such a call, up to 1 for none; default: the checkpoint's, or 4.5.",
    )

    @model_validator(mode="after")
    def _one_schedule(self) -> CallOptions:
        if self.default_steps is not None and self.default_timesteps:
            raise InvalidExportOption(
                f"--default_steps {self.default_steps}: --default_timesteps names {len(self.default_timesteps)};"
                " leave out --default_steps"
            )
        return self


class CallDefaults(BaseModel):
    """What a call does where its arguments do not say, in the manifest too; None and empty for diffusers' defaults.

    Attributes:
        steps, timesteps, guidance_scale: as of `_Distilled`.
        sources: who said so, by name of the value: a flag, a class of scheduler, or an id on the Hub.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: _Steps | None = None
    timesteps: _Timesteps = ()
    guidance_scale: _Scale | None = None
    sources: dict[_Word, _Word] = {}

    @classmethod
    def of(cls, options: CallOptions, checkpoint: PixArtCheckpoint, loras: Iterable[str]) -> CallDefaults:
        """What the options ask for, else the class of the scheduler, else the table.

        Args:
            loras: ids or folders of those that are merged.
        """
        known, scheduler = distilled(checkpoint.sources, loras), checkpoint.copied[SCHEDULER.name].class_name
        if scheduler in BY_SCHEDULER and not any(each.scheduler for each in known.values()):
            known = {scheduler: BY_SCHEDULER[scheduler], **known}
        chosen: dict[str, Any] = {}
        said: dict[str, str] = {}
        if known:
            name, each = next(iter(known.items()))
            chosen = {"steps": each.steps, "timesteps": each.timesteps, "guidance_scale": each.guidance_scale}
            said = {"steps": name, "guidance_scale": name}
        if options.default_timesteps:
            chosen |= {"steps": len(options.default_timesteps), "timesteps": options.default_timesteps}
            said["steps"] = "--default_timesteps"
        elif options.default_steps is not None:
            chosen |= {"steps": options.default_steps, "timesteps": ()}
            said["steps"] = "--default_steps"
        if options.default_guidance_scale is not None:
            chosen["guidance_scale"] = options.default_guidance_scale
            said["guidance_scale"] = "--default_guidance_scale"
        return cls(**chosen, sources=said)

    def arguments(self) -> dict[str, Any]:
        """By the names of diffusers' arguments."""
        found = {
            "num_inference_steps": self.steps,
            "timesteps": list(self.timesteps) or None,
            "guidance_scale": self.guidance_scale,
        }
        return {name: value for name, value in found.items() if value is not None}

    @property
    def unguided(self) -> bool:
        """Whether such a call needs no guidance pair."""
        return self.guidance_scale is not None and self.guidance_scale <= 1

    def describe(self) -> str:
        """What is taken and from where, for the user; empty for diffusers' own defaults."""
        parts = []
        if self.steps is not None:
            at = f" at {', '.join(map(str, self.timesteps))}" if self.timesteps else ""
            parts.append(f"{self.steps} step(s){at} ({self.sources['steps']})")
        if self.guidance_scale is not None:
            parts.append(f"guidance scale {self.guidance_scale:g} ({self.sources['guidance_scale']})")
        return ", ".join(parts)


def check_schedule(scheduler: Scheduler, asked_by: str, steps: int, timesteps: Sequence[int] = ()) -> None:
    """Refuse a schedule that the scheduler of the checkpoint cannot have: an InvalidExportOption says why.

    Args:
        asked_by: flag, class or id, for the message.
    """
    try:
        scheduler.try_schedule(steps, timesteps)
    except CheckpointError as error:
        wanted = f"timesteps {', '.join(map(str, timesteps))}" if timesteps else f"{steps} steps"
        raise InvalidExportOption(f"{asked_by}: {wanted} are not possible, {error}") from None


def distilled(sources: Mapping[str, Source], loras: Iterable[str]) -> dict[str, _Distilled]:
    """Those of the table that a checkpoint is made of, by id: its transformer, and LoRAs for it."""
    ids = [Address.parse("--lora_model_ids", lora).repository for lora in loras]
    ids.append(sources[DENOISER.part.name].address.repository)
    return {name: BY_REPOSITORY[name] for name in ids if name is not None and name in BY_REPOSITORY}


def components_of(sources: Mapping[str, Source]) -> str | None:
    """What completes the transformer of the table; None for others, and for those of which it is seen."""
    return next((each.components_model for each in distilled(sources, ()).values()), None)


def with_own_scheduler(scheduler: Scheduler, sources: Mapping[str, Source], loras: Iterable[str]) -> Scheduler:
    """The checkpoint's scheduler, or what a distilled transformer needs in its place."""
    for name, each in distilled(sources, loras).items():
        if each.scheduler is not None and each.scheduler != scheduler.class_name:
            return scheduler.replaced(each.scheduler, each.settings, f"{SCHEDULER.name}: {each.scheduler}, for {name}")
    return scheduler
