"""The weights of a loaded component by rank, from the export's own files, with changes made to them in memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from torch import Tensor

from ..artifact.compiled import AGAIN, CONFIG_FILE, PROGRAM_FILE, Compiled, shard_files
from ..artifact.held_weights import load_unplaced, weights_of
from ..checkpoint.adapters import geometry_of
from ..checkpoint.stamps import ReadAgain
from ..checkpoint.weights import ComponentWeights
from ..components.common.configuration import Configuration
from ..components.component import Component
from ..components.registry import PARTS
from ..errors import ArtifactError, CheckpointError
from ..files import first_problem, open_regular, read_typed, safetensors_header
from ..lora.adapter import ActiveAdapter, changed_weights, changes_of
from ..lora.merge import merged
from ..neuron.sdk import ensure_sdk
from .turns import OneAtATime


class WholeWeights(Protocol):
    """All weights of a part of a checkpoint."""

    @property
    def files(self) -> Collection[str]:
        """Their names."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Of one of them; CheckpointError for a type that is not read."""

    def read(self, name: str) -> Tensor:
        """One of them."""


@dataclass(frozen=True, eq=False)
class ModuleWeights:
    """Those of a module in memory, copied: training may go on."""

    tensors: Mapping[str, Tensor]

    @classmethod
    def of(cls, module: torch.nn.Module) -> ModuleWeights:
        return cls({name: tensor.detach().clone() for name, tensor in module.state_dict().items()})

    @property
    def files(self) -> Collection[str]:
        return self.tensors.keys()

    def shape(self, name: str) -> tuple[int, ...]:
        tensor = self.tensors[name]
        if not tensor.is_floating_point() or tensor.itemsize < 2:
            raise CheckpointError(f"weight {name} is {tensor.dtype}; take the model before it was quantised")
        return tuple(tensor.shape)

    def read(self, name: str) -> Tensor:
        return self.tensors[name].cpu()


@dataclass(frozen=True, eq=False)
class StoredWeights:
    """Those of files, which are read again at every change."""

    weights: ComponentWeights
    kept: ReadAgain

    @classmethod
    def of(cls, weights: ComponentWeights) -> StoredWeights:
        return cls(weights, ReadAgain.of(set(weights.files.values())))

    @property
    def files(self) -> Collection[str]:
        return self.weights.files.keys()

    def shape(self, name: str) -> tuple[int, ...]:
        return self.weights.shape(name)

    def read(self, name: str) -> Tensor:
        self.kept.check(CheckpointError)
        return self.weights.read(name)


@dataclass(eq=False)
class ExportedWeights:
    """The weight files of one component of an export, in its folder; made when its program is loaded."""

    component: Component
    folder: Path
    compiled: Compiled

    def __post_init__(self) -> None:
        self._kept = ReadAgain.of(self._files)

    @property
    def part(self) -> str:
        return self.component.part.name

    @cached_property
    def config(self) -> Configuration:
        """Its configuration, as far as anything reads it."""
        return read_typed(self.folder / CONFIG_FILE, self._settings, ArtifactError, advice=AGAIN)

    @property
    def _settings(self) -> type[Configuration]:
        settings = PARTS[self.part].settings
        assert settings is not None  # of a compiled part
        return settings

    @cached_property
    def geometry(self) -> dict[str, tuple[int, ...]]:
        """Weights of the checkpoint that the files hold, whole, by name."""
        whole = geometry_of({self.part: self.config.as_written()})[self.part]
        return {name: shape for name, shape in whole.items() if name in self._stored}

    @property
    def _files(self) -> list[Path]:
        """Of each rank."""
        return shard_files(self.folder, self.compiled.ranks)

    @cached_property
    def _stored(self) -> dict[str, tuple[int, ...]]:
        """Shapes in the first of the files, by name."""
        with open_regular(self._files[0]) as file:
            return {name: tuple(entry.shape) for name, entry in safetensors_header(file).items()}

    def _read(self, file: Path) -> dict[str, Tensor]:
        """What one of the files holds."""
        return load_file(file)

    def _dim(self, name: str) -> int | None:
        """The dimension of a weight that the ranks divide; None for a copy on every rank."""
        whole, stored = self.geometry[name], self._stored[name]
        dims = [dim for dim, (size, part) in enumerate(zip(whole, stored)) if size != part]
        if len(whole) != len(stored) or len(dims) > 1 or any(whole[d] != stored[d] * len(self._files) for d in dims):
            raise ArtifactError(f"{self._files[0]}: {name} has shape {stored}, no share of {whole}; {AGAIN}")
        return dims[0] if dims else None

    def check_config(self, config: Mapping[str, Any]) -> None:
        """Refuse, by CheckpointError, a `config.json` that makes another program: key and both values."""
        try:
            theirs = self._settings.model_validate(config).decisive()
        except ValidationError as error:
            raise CheckpointError(first_problem(f"the configuration of the {self.part}", error)) from None
        for key, value in self.config.decisive().items():
            if theirs[key] != value:
                raise CheckpointError(
                    f"the {self.part} has {key} {theirs[key]}, the export was compiled for {value}; export it instead"
                )

    def check(self, replaced: WholeWeights) -> None:
        """Refuse, by CheckpointError, weights of which one is missing, or of another shape or an unread type."""
        for name, shape in self.geometry.items():
            if name not in replaced.files:
                raise CheckpointError(f"the {self.part} has no weight {name}, which the export has")
            found = replaced.shape(name)
            if found != shape:
                raise CheckpointError(f"the {self.part}'s weight {name} has shape {found}, the export's {shape}")

    def by_rank(self, adapters: Sequence[ActiveAdapter], replaced: WholeWeights | None) -> list[dict[str, Tensor]]:
        """The weights of each rank: of the files, and mapped from them, but for those that change.

        Args:
            adapters: merged, in this order.
            replaced: taken instead of the export's own; what the checkpoint does not hold stays.

        Raises:
            ArtifactError, CheckpointError: files are not what they were when they were loaded.
        """
        self._kept.check(ArtifactError)
        ranks = [self._read(file) for file in self._files]
        changed = changed_weights(adapters, self.part)
        for name in changed if replaced is None else self.geometry:
            dim, own = self._dim(name), [weights[name] for weights in ranks]
            if replaced is not None:
                whole = replaced.read(name)
            else:
                whole = own[0] if dim is None else torch.cat(own, dim)
            whole = merged(whole, changes_of(adapters, self.part, name)).to(own[0].dtype)
            parts = [whole] * len(ranks) if dim is None else whole.chunk(len(ranks), dim)
            for weights, part in zip(ranks, parts):
                weights[name] = part.contiguous()
        return ranks


class HeldWeights(ExportedWeights):
    """The weights in the file of a component's program of one core, apart from its machine code."""

    @property
    def _files(self) -> list[Path]:
        return [self.folder / PROGRAM_FILE]

    @cached_property
    def _stored(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(tensor.shape) for name, tensor in self._read(*self._files).items()}

    def _read(self, file: Path) -> dict[str, Tensor]:
        try:
            ensure_sdk().check_program(file)
        except RuntimeError as error:
            raise ArtifactError(f"{file}: {error}; {AGAIN}") from None
        return weights_of(load_unplaced(file))


@dataclass(frozen=True)
class Copies:
    """The copies of a program of one core, which have the same weights.

    Attributes:
        programs: one on each core, from the first core on.
    """

    programs: Sequence[OneAtATime]

    def initialize(self, weights: Sequence[Mapping[str, Tensor]]) -> None:
        """Have other weights, as `OneAtATime.initialize`: of the one rank that there is."""
        (own,) = weights
        for core, program in enumerate(self.programs):
            program.replace_weights(own, core)
