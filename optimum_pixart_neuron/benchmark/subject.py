"""What a folder of compiled artifacts says of itself, with a manifest or, from the stock exporter, without."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..artifact.manifest import Manifest
from ..hardware import get_instance
from ..planner import PlanRow, Request, predict
from ..planner.prices import Price

_CONFIGS = {"text_encoder": "text_encoder", "transformer": "transformer", "vae_decoder": "vae"}
"""Folder of the export -> component of the checkpoint."""


@dataclass(frozen=True)
class Subject:
    """A folder; what it says can be relied on once `check_artifact` has passed it.

    Attributes:
        folder: of the artifacts.
        manifest: None where there is none.
    """

    folder: Path
    manifest: Manifest | None

    @classmethod
    def open(cls, folder: Path) -> "Subject":
        """Read the manifest, if there is one.

        Raises:
            ArtifactError: it cannot be read.
        """
        return cls(folder, Manifest.read(folder))

    @cached_property
    def configs(self) -> dict[str, dict]:
        """The `config.json` of each compiled component of text-to-image, by folder."""
        return {
            name: json.loads((self.folder / name / "config.json").read_text(encoding="utf-8")) for name in _CONFIGS
        }

    def neuron(self, component: str) -> dict:
        """What a component was compiled for."""
        return self.configs[component]["neuron"]

    @property
    def parallel(self) -> dict:
        """How the transformer uses the cores; empty if the stock exporter compiled it."""
        return self.neuron("transformer").get("parallel", {})

    @property
    def instance(self) -> str:
        """Full name of the instance it was compiled for; of the largest of its family where only that is known."""
        return self.manifest.instance if self.manifest else get_instance(self._family).name

    @property
    def known_instance(self) -> str | None:
        """The same, before the folder is checked; None if it does not say, or names none that is known."""
        try:
            return get_instance(self.instance).name
        except (OSError, ValueError, KeyError):
            return None

    @property
    def _family(self) -> str:
        neuron = self.neuron("transformer")
        return neuron.get("target") or neuron["instance_type"]

    @property
    def mode(self) -> str | None:
        """Of the transformer: "context", "tensor" or "data"; None on one core."""
        return self.parallel.get("mode") if self.ranks > 1 else None

    @property
    def ranks(self) -> int:
        """Cores that the pipeline is spread over."""
        return self.manifest.ranks if self.manifest else self.neuron("transformer").get("tensor_parallel_size", 1)

    @property
    def no_guidance(self) -> bool:
        """Whether it was exported without the guidance pair."""
        return bool(self.manifest and self.manifest.options.get("no_guidance"))

    @property
    def takes_any_batch(self) -> bool:
        """Whether our class runs requests of any size on it."""
        return bool(self.parallel) or self.neuron("transformer").get("dynamic_batch_size", False)

    @property
    def scale(self) -> int:
        """Pixels a latent cell."""
        return 2 ** (len(self.configs["vae_decoder"]["block_out_channels"]) - 1)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of an image in pixels."""
        return self._pixels("transformer")

    @property
    def prompts(self) -> int:
        """Prompts of a compiled batch."""
        return self.neuron("text_encoder")["static_batch_size"]

    @property
    def images_per_prompt(self) -> int:
        """Images per prompt of a compiled batch."""
        return self.neuron("transformer")["static_batch_size"] // self.prompts

    def predict(self, steps: int, price: Price | None = None) -> PlanRow:
        """The plan's row for the instance it was compiled for.

        Raises:
            InvalidExportOption: the plan does not cover this export.
        """
        neuron, (height, width) = self.neuron("transformer"), self.size
        tile = self._pixels("vae_decoder")
        request = Request(
            height=height,
            width=width,
            num_inference_steps=steps,
            no_guidance=self.no_guidance,
            batch_size=self.prompts,
            num_images_per_prompt=self.images_per_prompt,
            sequence_length=neuron["static_sequence_length"],
            torch_dtype=neuron.get("torch_dtype") or _dtype_of_stock(neuron),
            exchange=self.parallel.get("exchange"),
            vae_tile_size=None if tile == (height, width) else max(tile),
            parallel_mode=self.mode,
            tensor_parallel_size=self.ranks,
        )
        return predict(request, self.instance, checkpoint=self, price=price)

    @property
    def source(self) -> str:
        return str(self.folder)

    @property
    def sources(self) -> list[str]:
        return list(_CONFIGS.values())

    def config(self, part: str) -> dict:
        """The checkpoint's configuration of a part."""
        return next(self.configs[folder] for folder, name in _CONFIGS.items() if name == part)

    def _pixels(self, component: str) -> tuple[int, int]:
        neuron = self.neuron(component)
        return neuron["static_height"] * self.scale, neuron["static_width"] * self.scale


def _dtype_of_stock(neuron: dict) -> str:
    """The stock exporter records the type of the borders only, which is that of the weights."""
    return {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}.get(neuron["float_dtype"], "float32")
