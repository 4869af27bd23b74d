"""The scheduler: one of diffusers' own, made from the numbers and words of its configuration."""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from math import isinf
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field, TypeAdapter

from ...errors import PixArtNeuronError, printable
from ...files import CONFIGURATION_BYTES, parse_json
from ..common.copied import CopiedPart, parsed

CONFIGURATION = "scheduler_config.json"
DEFAULT_CLASS = "DPMSolverMultistepScheduler"
_LIBRARY = "diffusers"
_TRIALS = (4, 2)
"""Steps; schedulers of few-step checkpoints may take only a number of their own."""

_TRIAL_SHAPE = (1, 4, 8, 8)
"""Of latents."""
_LARGEST = 100_000
"""Of a number's amount: tensors as long as the training timesteps are made, of which PixArt-Sigma has 1000."""
_LONGEST = 10_000
"""Of a list."""
_LONGEST_WORD = 200


def _scalar(value: Any) -> Any:
    """A setting of a scheduler; DPMSolverMultistepScheduler has a bound of -Infinity."""
    if isinstance(value, str) and len(value) > _LONGEST_WORD:
        raise ValueError(f"it has {len(value)} characters, at most {_LONGEST_WORD} are read")
    if isinstance(value, int | float) and abs(value) > _LARGEST and not (isinstance(value, float) and isinf(value)):
        raise ValueError(f"{printable(value)} is beyond {_LARGEST}")
    if not isinstance(value, int | float | str | None):
        raise ValueError("it is no number, word or switch")
    return value


def _setting(value: Any) -> Any:
    if not isinstance(value, list):
        return _scalar(value)
    if len(value) > _LONGEST:
        raise ValueError(f"it has {len(value)} entries, at most {_LONGEST} are read")
    return [_scalar(entry) for entry in value]


_SETTINGS = TypeAdapter(
    dict[Annotated[str, Field(pattern=r"^[A-Za-z_]\w{0,63}$")], Annotated[Any, AfterValidator(_setting)]]
)


class Scheduler(CopiedPart):
    """A scheduler of a checkpoint or an export."""

    FILES: ClassVar[Mapping[str, int]] = {CONFIGURATION: CONFIGURATION_BYTES}
    NEEDED: ClassVar[tuple[str, ...]] = (CONFIGURATION,)

    @classmethod
    def read(cls, folder: Path, entry: tuple[str, str] | None, raises: type[PixArtNeuronError]) -> Scheduler:
        files = cls.read_files(folder, raises)
        values = parsed(folder / CONFIGURATION, files[CONFIGURATION], _SETTINGS.validate_python, raises)
        named = values.get("_class_name", DEFAULT_CLASS)
        if not isinstance(named, str):
            raise raises(f"{folder / CONFIGURATION}: _class_name is not a name")
        library, class_name = entry or (_LIBRARY, named)
        if library != _LIBRARY or not class_name.isidentifier():
            raise raises(
                f"{folder}: {printable(library)}.{printable(class_name)} is no scheduler of diffusers; no other code"
                " is loaded"
            )
        return cls(folder=folder, source=files, contents=files, library=library, class_name=class_name, raises=raises)

    def load(self) -> Any:
        """Make the scheduler, and see it plan and make a few steps as a call of the pipeline asks it to.

        Some values that its configuration may have are first looked at in a step.
        """
        with self._loading():
            for steps in _TRIALS:
                with suppress(ValueError) if steps != _TRIALS[-1] else nullcontext():
                    _try(self._made(), steps)
                    break
            return self._made()

    def try_schedule(self, steps: int, timesteps: Sequence[int] = ()) -> None:
        """See the scheduler make a schedule of these steps or timesteps; an error of type `raises` if it cannot."""
        with self._loading():
            _try(self._made(), steps, timesteps)

    def replaced(self, class_name: str, settings: Mapping[str, Any], note: str) -> Scheduler:
        """Another class with the settings of this one, and others beside them, as diffusers' `from_config` does it."""
        values = {**parse_json(self.contents[CONFIGURATION]), **settings, "_class_name": class_name}
        contents = {CONFIGURATION: f"{json.dumps(values, indent=2, sort_keys=True)}\n".encode()}
        return replace(self, class_name=class_name, contents=contents, notes=(*self.notes, note))

    def _made(self) -> Any:
        values = {name: value for name, value in parse_json(self.contents[CONFIGURATION]).items() if name[0] != "_"}
        return self._class().from_config(values)

    def _class(self) -> type[Any]:
        """The class of this name among those that diffusers itself lists; no module is looked up by a name."""
        from diffusers import SchedulerMixin, schedulers

        found = getattr(schedulers, self.class_name, None)
        if not isinstance(found, type) or not issubclass(found, SchedulerMixin) or found is SchedulerMixin:
            missing = getattr(found, "_backends", None)  # of the placeholders for classes that need more packages
            reason = f"needs {', '.join(missing)}" if missing else "is no scheduler of the installed diffusers"
            raise self._refuse(f"{self.class_name} {reason}")
        return found


def gives_denoised(scheduler: Any) -> bool:
    """Whether a step gives the denoised sample beside the next one, as diffusers' PixArt-Alpha takes that of one step.

    A copy of the scheduler is tried.
    """
    import torch

    trial, sample = copy.deepcopy(scheduler), torch.zeros(_TRIAL_SHAPE)
    trial.set_timesteps(1)
    with torch.random.fork_rng(devices=[]):
        return len(trial.step(sample, trial.timesteps[0], sample, return_dict=False)) > 1


def _try(scheduler: Any, steps: int, timesteps: Sequence[int] = ()) -> None:
    """Denoise a little, as diffusers' `PixArtSigmaPipeline.__call__` (0.35) does.

    Noise that the scheduler draws does not change the caller's random state.
    """
    import torch

    if timesteps and "timesteps" not in inspect.signature(scheduler.set_timesteps).parameters:
        raise ValueError("it takes no timesteps, it chooses them")
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        if timesteps:
            scheduler.set_timesteps(timesteps=list(timesteps))
        else:
            scheduler.set_timesteps(steps)
        latents = torch.ones(_TRIAL_SHAPE) * scheduler.init_noise_sigma
        for timestep in scheduler.timesteps:
            noise = scheduler.scale_model_input(latents, timestep) / 2
            latents = scheduler.step(noise, timestep, latents, return_dict=False)[0]
