"""Options of an export: those of its checkpoint, of its deployment, and of the folder that it makes."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from ..checkpoint.few_steps import CallOptions
from ..checkpoint.options import CheckpointOptions
from ..deployment.options import DeploymentOptions
from ..errors import InvalidExportOption
from ..options import Flag, Folder, Text
from ..validation.options import ToleranceOptions
from .other_models import OF_OTHER_MODELS

_OUTPUT, _COMPILATION, _HUB = "Output", "Compilation", "Hugging Face Hub"
_TASKS = ("auto", "text-to-image")


class ExportOptions(ToleranceOptions, CallOptions, DeploymentOptions, CheckpointOptions):
    """The request of a user; None where the exporter derives the value from the checkpoint or the instance."""

    output: Annotated[Folder, Flag(names=("output",), group=_OUTPUT, recorded=False)] = Field(
        description="Folder to write the compiled pipeline to; must not exist or be empty."
    )
    task: Annotated[str, Flag(group="Checkpoint", recorded=False)] = Field(
        "auto", description="Only text-to-image, for which auto stands."
    )
    trust_remote_code: Annotated[bool, Flag(names=("--trust-remote-code",), group="Checkpoint")] = Field(
        False, description="Taken, and without effect: no code of a repository is run."
    )
    compiler_workdir: Annotated[Folder | None, Flag(group=_COMPILATION, recorded=False)] = Field(
        None, description="Folder to keep the compiler's intermediate files in."
    )
    inline_weights_to_neff: Annotated[bool, Flag(names=("--inline-weights-neff",), group=_COMPILATION)] = Field(
        False, description="Put weights into the programs of one core; those of several cores have files."
    )
    disable_validation: Annotated[
        bool, Flag(names=("--disable-validation",), hidden=("--disable_validation",), group="Validation")
    ] = Field(False, description="Skip the comparison with the original model after the export.")
    disable_neuron_cache: Annotated[bool, Flag(group=_COMPILATION)] = Field(
        False, description="Neither look up nor store compiled programs in the Neuron cache."
    )
    programs_from: Annotated[Text | None, Flag(metavar="EXPORT", group=_COMPILATION, recorded=False)] = Field(
        None,
        description=(
            "Folder or Hub id of an export whose programs are taken where they are the same; only weights are written."
        ),
    )
    force: Annotated[bool, Flag(group=_OUTPUT, recorded=False)] = Field(
        False, description="Start over: forget what an interrupted export finished, replace an export in output."
    )
    push_to_hub: Annotated[str | None, Flag(metavar="REPO", group=_HUB, recorded=False)] = Field(
        None,
        description=(
            "Push the result to this repository of the Hugging Face Hub, with a model card; --token may write to it."
        ),
    )
    private: Annotated[bool, Flag(group=_HUB, recorded=False)] = Field(
        False, description="Make that repository private, if it does not exist."
    )
    allow_emulated: Annotated[bool, Flag(group=_HUB, recorded=False)] = Field(
        False, description="Push also what the emulator made and no Neuron device runs."
    )

    @model_validator(mode="before")
    @classmethod
    def _of_other_models(cls, given: dict[str, Any]) -> dict[str, Any]:
        """The host's Python API has these options too; what is off or left out asks for nothing."""
        for name, option in OF_OTHER_MODELS.items():
            if given.get(name) not in (None, False):
                raise InvalidExportOption(f"{option.flag} has no meaning for PixArt: {option.reason}")
        return {name: value for name, value in given.items() if name not in OF_OTHER_MODELS}

    @model_validator(mode="after")
    def _fit_each_other(self) -> ExportOptions:
        if self.task not in _TASKS:
            raise InvalidExportOption(f"--task {self.task}: PixArt is exported for text-to-image only")
        for name in ("private", "allow_emulated"):
            if getattr(self, name) and not self.push_to_hub:
                raise InvalidExportOption(f"--{name} says how to push; add --push_to_hub REPO")
        return self
