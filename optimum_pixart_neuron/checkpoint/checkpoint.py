"""A PixArt-Sigma checkpoint: where its components come from, their configurations, and that they fit each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..components.common.configuration import Configuration
from ..components.common.copied import CopiedPart, check_inside
from ..components.scheduler.scheduler import Scheduler
from ..components.text_encoder.configuration import T5Configuration
from ..components.tokenizer.tokenizer import Tokenizer, last_token
from ..components.transformer.configuration import TransformerConfiguration
from ..components.vae.configuration import VaeConfiguration
from ..errors import CheckpointError
from ..files import read_json, read_typed
from .layout import RECOGNIZED, WEIGHT_STEMS
from .weights import ComponentWeights

if TYPE_CHECKING:  # configurations are read without torch
    import torch

CONFIGURATIONS: dict[str, type[Configuration]] = {
    "text_encoder": T5Configuration,
    "transformer": TransformerConfiguration,
    "vae": VaeConfiguration,
}
"""What the `config.json` of each compiled component may say."""
COPIED: dict[str, type[CopiedPart]] = {"tokenizer": Tokenizer, "scheduler": Scheduler}
"""What is loaded and copied instead of compiled."""

# Channels of T5's embeddings, of the latents: (component, key) of the giver and of the taker.
_SEAMS = (
    (("text_encoder", "d_model"), ("transformer", "caption_channels")),
    (("vae", "latent_channels"), ("transformer", "in_channels")),
)


@dataclass(frozen=True)
class ComponentSource:
    """Where one component of a checkpoint comes from.

    Attributes:
        model: what the user called it: a Hub id, with revision and path if given, or a folder.
        revision: commit hash on the Hub; None for a folder.
        folder: the component's own folder on this machine, such as `.../text_encoder`.
        files: names of the files in it, with those that are still on the Hub.
        variant: of its weight files, such as "fp16"; None for the plain ones.
        repository: id on the Hub; None for a folder.
        path: of the component's folder inside the repository.
        cached_only: whether the Hub was not asked, so that `files` is what the download cache holds.
    """

    model: str
    revision: str | None
    folder: Path
    files: frozenset[str] = frozenset()
    variant: str | None = None
    repository: str | None = None
    path: str = ""
    cached_only: bool = False


@dataclass(frozen=True)
class PixArtCheckpoint:
    """The components of a PixArt-Sigma pipeline, from one checkpoint or several.

    Attributes:
        source: what the user called it: a Hub id or a folder.
        sources: where each component comes from: text_encoder, transformer, vae, tokenizer and scheduler.
        model_index: what diffusers' model_index.json says of the pipeline.
        copied: tokenizer and scheduler, read.
        notes: what the user should know of where things come from, a line each.
    """

    source: str
    sources: Mapping[str, ComponentSource]
    model_index: Mapping[str, Any]
    copied: Mapping[str, CopiedPart] = field(default_factory=dict, repr=False)
    notes: tuple[str, ...] = ()

    def config(self, component: str) -> dict[str, Any]:
        """What the `config.json` of a compiled component says, as far as anything reads it.

        Raises:
            CheckpointError: it is missing, is another model's, or a key is missing or has a value that it cannot have.
        """
        if component not in self._read:
            self._read[component] = self._read_config(component)
        return dict(self._read[component])

    @cached_property
    def _read(self) -> dict[str, dict[str, Any]]:
        """Configurations that were read before: what was checked is what is used."""
        return {}

    def _read_config(self, component: str) -> dict[str, Any]:
        folder = self.sources[component].folder
        path = folder / "config.json"
        try:
            check_inside(path, folder)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path} cannot be read: {error}") from None
        if component in RECOGNIZED:
            said = read_json(path, CheckpointError)
            if not RECOGNIZED[component](said):
                found = said.get("_class_name") or said.get("model_type")
                raise CheckpointError(f"{path} is of a {found}, which is no {component} of PixArt-Sigma")
        found = read_typed(path, CONFIGURATIONS[component], CheckpointError)
        return found.as_written()

    def weights(self, component: str) -> ComponentWeights:
        """A component's weight files."""
        source = self.sources[component]
        return ComponentWeights.find(source.folder, WEIGHT_STEMS[component], source.variant)

    def check(self) -> None:
        """Check that the configurations are there and fit each other; no weight has to be there yet.

        Raises:
            CheckpointError: names the first missing or unreadable file or key, or what does not fit, with both sizes.
        """
        for component in CONFIGURATIONS:
            self.config(component)
        self._check_conditions()
        for giver, taker in _SEAMS:
            self._check_seam(giver, taker)

    def check_copied(self) -> None:
        """Load tokenizer and scheduler as the pipeline will; takes seconds, for their libraries.

        A token beyond the table of embeddings would read another row's memory on a NeuronCore.

        Raises:
            CheckpointError: their classes refuse them, or the tokenizer does not fit the text encoder.
        """
        loaded = {name: part.load() for name, part in self.copied.items()}
        last, rows = last_token(loaded["tokenizer"]), self.config("text_encoder")["vocab_size"]
        if last >= rows:
            raise CheckpointError(
                f"the text_encoder of {self.sources['text_encoder'].model} has vocab_size {rows}, the tokenizer of"
                f" {self.sources['tokenizer'].model} gives token {last}: they do not fit; choose another"
                " --text_encoder"
            )

    def _check_conditions(self) -> None:
        """diffusers 0.35 `PixArtTransformer2DModel`: without the key, 1024 px checkpoints have the conditions."""
        config = self.config("transformer")
        conditions = config.get("use_additional_conditions")
        if conditions or (conditions is None and config["sample_size"] == 128):
            raise CheckpointError(
                f"{self.sources['transformer'].folder / 'config.json'} asks for use_additional_conditions, image size"
                " and aspect ratio, as PixArt-Alpha has them; in PixArt-Sigma's it is false"
            )

    def _check_seam(self, giver: tuple[str, str], taker: tuple[str, str]) -> None:
        sizes = [self.config(component)[key] for component, key in (giver, taker)]
        if sizes[0] != sizes[1]:
            sides = [
                f"the {component} of {self.sources[component].model} has {key} {size}"
                for (component, key), size in zip((giver, taker), sizes)
            ]
            flags = [f"--{component}" for component, _ in (giver, taker) if component in RECOGNIZED]
            raise CheckpointError(f"{', '.join(sides)}: they do not fit; choose another {' or '.join(flags)}")


def torch_dtype(name: str) -> torch.dtype:
    """`"bfloat16"` -> `torch.bfloat16`."""
    import torch

    return getattr(torch, name)
