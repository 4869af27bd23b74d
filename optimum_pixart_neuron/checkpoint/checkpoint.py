"""A PixArt checkpoint: where its components come from, their configurations, and that they fit each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..components.common.copied import CopiedPart, check_inside
from ..components.common.single_file import SingleFile
from ..components.component import Part, Seam
from ..components.registry import DENOISER, IMAGE_DECODER, PARTS, PROMPT_ENCODER
from ..components.tokenizer.spec import TOKENIZER
from ..components.tokenizer.tokenizer import last_token
from ..errors import CheckpointError
from ..files import read_json, read_typed, typed
from .layout import Kind, kind_of_parts
from .sources import Source
from .weights import AdaptedWeights, ComponentWeights, header_of

if TYPE_CHECKING:  # configurations are read without torch
    from .adapters import NamedAdapter


@dataclass(frozen=True)
class PixArtCheckpoint:
    """The components of a PixArt pipeline, from one checkpoint or several.

    Attributes:
        source: what the user called it: a Hub id or a folder.
        sources: where each component comes from: text_encoder, transformer, vae, tokenizer and scheduler.
        model_index: what diffusers' model_index.json says of the pipeline.
        copied: tokenizer and scheduler, read.
        notes: what the user should know of where things come from, a line each.
        adapters: that are merged into its weights, in this order.
        named: what it calls itself, where it is whole; None for what was put together.
    """

    source: str
    sources: Mapping[str, Source]
    model_index: Mapping[str, Any]
    copied: Mapping[str, CopiedPart] = field(default_factory=dict, repr=False)
    notes: tuple[str, ...] = ()
    adapters: tuple[NamedAdapter, ...] = ()
    named: Kind | None = None

    @property
    def kind(self) -> Kind:
        """The pipeline that it makes; a configuration that cannot be read is a CheckpointError."""
        return self.named or kind_of_parts(self.config(DENOISER.part.name), self.config(IMAGE_DECODER.part.name))

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
        source = self.sources[component]
        folder, part = source.folder, PARTS[component]
        path = folder / "config.json"
        if source.file is not None and part.single_file is not None and not path.is_file():
            return self._told_by_shapes(part, part.single_file, source.file)
        try:
            check_inside(path, folder)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path} cannot be read: {error}") from None
        if part.settings is None or part.recognize is not None:
            said = read_json(path, CheckpointError)
            if part.recognize is not None and not part.recognize(said):
                found = said.get("_class_name") or said.get("model_type")
                raise CheckpointError(f"{path} is of a {found}, which is no {component} of PixArt")
            if part.settings is None:
                return said
        return read_typed(path, part.settings, CheckpointError).as_written()

    def _told_by_shapes(self, part: Part, form: SingleFile, file: Path) -> dict[str, Any]:
        assert part.settings is not None  # of a compiled part
        return typed(form.configuration(header_of(file), file), part.settings, file, CheckpointError).as_written()

    def weights(self, component: str) -> ComponentWeights:
        """A component's weight files, with the adapters."""
        source, part = self.sources[component], PARTS[component]
        if source.file is not None and part.single_file is not None:
            found = ComponentWeights.of_file(source.file, part.single_file)
        else:
            found = ComponentWeights.find(source.folder, part.stem, source.variant)
        return AdaptedWeights.of(found, component, [each.active for each in self.adapters])

    def check(self) -> None:
        """Check that the configurations are there and fit each other; no weight has to be there yet.

        Raises:
            CheckpointError: names the first missing or unreadable file or key, or what does not fit, with both sizes.
        """
        parts = [part for name, part in PARTS.items() if part.weights is not None and name in self.sources]
        for part in parts:
            self.config(part.name)
        for part in parts:
            if part.check is not None:
                part.check(self)
            for seam in part.seams:
                self._check_seam(part.name, seam)

    def check_copied(self) -> None:
        """Load tokenizer and scheduler as the pipeline will; takes seconds, for their libraries.

        A token beyond the table of embeddings would read another row's memory on a NeuronCore.

        Raises:
            CheckpointError: their classes refuse them, or the tokenizer does not fit the text encoder.
        """
        loaded = {name: part.load() for name, part in self.copied.items()}
        text, tokens = PROMPT_ENCODER.part.name, TOKENIZER.name
        last, rows = last_token(loaded[tokens]), self.config(text)["vocab_size"]
        if last >= rows:
            raise CheckpointError(
                f"the {text} of {self.sources[text].model} has vocab_size {rows}, the {tokens} of"
                f" {self.sources[tokens].model} gives token {last}: they do not fit; choose another --{text}"
            )

    def _check_seam(self, taker: str, seam: Seam) -> None:
        ends = ((seam.giver, seam.giver_key), (taker, seam.key))
        sizes = [self.config(part)[key] for part, key in ends]
        if sizes[0] != sizes[1]:
            sides = [
                f"the {part} of {self.sources[part].model} has {key} {size}" for (part, key), size in zip(ends, sizes)
            ]
            flags = [f"--{part}" for part, _ in ends if PARTS[part].flag_help]
            raise CheckpointError(f"{', '.join(sides)}: they do not fit; choose another {' or '.join(flags)}")
