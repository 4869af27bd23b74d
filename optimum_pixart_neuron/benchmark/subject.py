"""What a folder of compiled artifacts says of itself, with a manifest or, from the stock exporter, without."""

from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

from ..artifact.compiled import AGAIN, CONFIG_FILE, Compiled
from ..artifact.manifest import Manifest
from ..components.component import Component, Per
from ..components.registry import COMPONENTS, DENOISER, IMAGE_DECODER, PROMPT_ENCODER
from ..components.transformer.spec import STEPS, scale_of_call
from ..deployment.deployment import Deployment, decide
from ..errors import ArtifactError, PixArtNeuronError
from ..files import read_json
from ..hardware import get_instance
from ..parallel.modes import PICTURE_MODES
from ..planner import PlanRow, Request, predict
from ..planner.prices import Price


@dataclass(frozen=True)
class Subject:
    """A folder; what it says can be relied on once `check_artifact` has passed it. A plan takes it for a checkpoint.

    Attributes:
        drawn: height and width in pixels of the pictures, of several that are compiled; None for the first.
    """

    folder: Path
    manifest: Manifest | None
    drawn: tuple[int, int] | None = None

    @classmethod
    def open(cls, folder: Path) -> "Subject":
        """Read the manifest, if there is one; ArtifactError where it cannot be."""
        return cls(folder, Manifest.read(folder))

    @cached_property
    def configs(self) -> dict[str, dict]:
        """The `config.json` of each compiled component that a call of the pipeline runs."""
        files = {
            name: self.folder / name / CONFIG_FILE
            for name, component in COMPONENTS.items()
            if component.per is not Per.NEVER
        }
        return {
            name: read_json(file, ArtifactError, advice=AGAIN)
            for name, file in files.items()
            if COMPONENTS[name].required or file.exists()
        }

    def compiled(self, component: Component) -> Compiled:
        """What a component was compiled for; ArtifactError where nothing was, or it is damaged."""
        return Compiled.require(self.folder / component.name)

    # As a plan asks a checkpoint.

    @property
    def source(self) -> str:
        return str(self.folder)

    @property
    def sources(self) -> list[str]:
        return [COMPONENTS[name].part.name for name in self.configs]

    def config(self, part: str) -> dict[str, Any]:
        """The checkpoint's configuration of a part."""
        return next(config for name, config in self.configs.items() if COMPONENTS[name].part.name == part)

    @property
    def instance(self) -> str:
        """Full name of the instance it was compiled for; of the largest of its family where only that is known."""
        if self.manifest:
            return self.manifest.instance
        return get_instance(self.compiled(DENOISER).compiled_for or "").name

    @property
    def known_instance(self) -> str | None:
        """The same, before the folder is checked; None if it does not say, or names none that is known."""
        try:
            return get_instance(self.instance).name
        except (PixArtNeuronError, ValueError):
            return None

    @property
    def mode(self) -> str | None:
        """Of the denoiser; None on one core, and in folders of the stock exporter."""
        parallel = self.compiled(DENOISER).parallel
        return parallel.mode if parallel and self.ranks > 1 else None

    @property
    def ranks(self) -> int:
        """Cores that the pipeline is spread over."""
        return self.manifest.ranks if self.manifest else self.compiled(DENOISER).tensor_parallel_size

    @property
    def no_guidance(self) -> bool:
        """Whether it was exported without the guidance pair."""
        return bool(self.manifest and not self.manifest.guided)

    @property
    def steps(self) -> int:
        """Denoising steps that the checkpoint was distilled for, or diffusers' own number."""
        return (self.manifest and self.manifest.call and self.manifest.call.steps) or STEPS

    @property
    def guidance_scale(self) -> float:
        """Likewise; no more than nothing where no guidance is compiled."""
        said = self.manifest.call.guidance_scale if self.manifest and self.manifest.call else None
        return scale_of_call(said, guided=not self.no_guidance)

    @property
    def takes_any_batch(self) -> bool:
        """Whether our class runs requests of any size on it."""
        denoiser = self.compiled(DENOISER)
        return denoiser.is_ours or denoiser.dynamic_batch_size

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of an image in pixels."""
        return self.drawn or self.sizes[0]

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Every size that is compiled, in pixels, the default first."""
        return self._pixels(DENOISER)

    @property
    def prompts(self) -> int:
        """Prompts of a compiled batch."""
        return self.compiled(PROMPT_ENCODER).sizes["batch_size"]

    @property
    def images_per_prompt(self) -> int:
        """Images per prompt of a compiled batch."""
        return self.compiled(DENOISER).sizes["batch_size"] // self.prompts

    def request(self, steps: int) -> Request:
        """What an export of this folder is asked for, with steps; InvalidExportOption where none is like it."""
        denoiser, (height, width) = self.compiled(DENOISER), self.size
        inside = [(tall, wide) for tall, wide in self._pixels(IMAGE_DECODER) if tall <= height and wide <= width]
        tile = max(inside, key=prod, default=self.size)
        return Request(
            height=height,
            width=width,
            num_inference_steps=steps,
            no_guidance=self.no_guidance,
            batch_size=self.prompts,
            num_images_per_prompt=self.images_per_prompt,
            sequence_length=denoiser.sizes["sequence_length"],
            torch_dtype=denoiser.weights_dtype,
            exchange=denoiser.parallel.exchange if denoiser.parallel else None,
            vae_parallel=self._vae_parallel,
            vae_tile_size=None if tile == (height, width) else max(tile),
            parallel_mode=self.mode,
            tensor_parallel_size=self.ranks,
        )

    def deployment(self, steps: int) -> Deployment:
        """How it was compiled; InvalidExportOption where no export of ours is like it."""
        return decide(self.request(steps), self, get_instance(self.instance))

    def predict(self, steps: int, price: Price | None = None) -> PlanRow:
        """The plan's row for its own instance; InvalidExportOption where the plan does not cover this export."""
        return predict(self.request(steps), self.instance, checkpoint=self, price=price)

    @property
    def _vae_parallel(self) -> str:
        """What an export is asked for to decode pictures as this one does."""
        parallel = self.compiled(IMAGE_DECODER).parallel
        mode = parallel.mode if parallel and self.ranks > 1 else None
        return next((name for name, each in PICTURE_MODES.items() if each.name == mode), "auto")

    def _pixels(self, component: Component) -> list[tuple[int, int]]:
        scale = IMAGE_DECODER.pixels_per_cell(self.configs[IMAGE_DECODER.name])
        cells = [each.sizes for each in self.compiled(component).each()]
        return list(dict.fromkeys((sizes["height"] * scale, sizes["width"] * scale) for sizes in cells))
