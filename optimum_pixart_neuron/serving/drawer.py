"""A loaded export in the process that holds its cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import psutil
from PIL.Image import Image

from ..errors import DeviceError, one_line
from ..neuron.sdk import ensure_sdk
from .exported import Exported
from .picture import Picture

VISIBLE_CORES = "NEURON_RT_VISIBLE_CORES"


class CannotDraw(ValueError):
    """These pictures cannot be drawn by this export, whoever tries."""


class DrawerBroken(RuntimeError):
    """The device, or a process behind it, failed: this process draws nothing any more, another one may."""


class Drawer:
    """Draws pictures of one kind, up to `exported.batch` at a time; not from several threads at once."""

    def __init__(self, exported: Exported, pipeline: Any) -> None:
        """
        Args:
            exported: what `pipeline` was loaded from.
            pipeline: called as `diffusers.PixArtSigmaPipeline`.
        """
        self.exported = exported
        self._pipeline = pipeline
        pipeline.set_progress_bar_config(disable=True)
        self._helpers: list[psutil.Process] = []

    @classmethod
    def load(cls, exported: Exported) -> Drawer:
        """Load the export onto the cores that Ray gave this process, or without Ray onto the visible ones.

        Raises:
            PixArtNeuronError: as `from_pretrained`; or the cores are no block.
        """
        order_visible_cores()
        ensure_sdk()
        from ..runtime.pixart import PIPELINES

        where = {} if exported.revision is None else {"revision": exported.revision}
        return cls(exported, PIPELINES[exported.pipeline].from_pretrained(exported.address, **where))

    def draw(self, pictures: Sequence[Picture], on_step: Callable[[int], None] | None = None) -> list[Image]:
        """Draw pictures of one kind, in order.

        Args:
            on_step: told after each denoising step how many are done; what it raises ends the drawing, and the next
                one is not affected.

        Raises:
            CannotDraw: the pipeline refuses the call.
            DrawerBroken: it failed.
        """
        import torch

        kind = pictures[0].kind
        interval = {} if kind.guidance_interval is None else {"guidance_interval": kind.guidance_interval}
        stopped: list[BaseException] = []

        def after_step(index: int, _timestep: Any, _latents: Any) -> None:
            if on_step is not None:
                try:
                    on_step(index + 1)
                except BaseException as error:
                    stopped.append(error)
                    raise

        try:
            images = self._pipeline(
                prompt=[picture.prompt for picture in pictures],
                negative_prompt=[picture.negative_prompt for picture in pictures],
                generator=[torch.Generator().manual_seed(picture.seed) for picture in pictures],
                height=kind.height,
                width=kind.width,
                num_inference_steps=kind.steps,
                guidance_scale=kind.guidance_scale,
                callback=after_step,
                callback_steps=1,
                **interval,
            ).images
        except Exception as error:
            if error in stopped:
                raise
            if isinstance(error, ValueError):
                raise CannotDraw(one_line(error)) from error
            raise DrawerBroken(f"{type(error).__name__}: {one_line(error)}") from error
        self._helpers = self._helpers or psutil.Process().children(recursive=True)
        return images

    def problem(self) -> str | None:
        """What keeps this process from drawing, as far as it shows without drawing; None for nothing.

        The SDK may have started processes for its programs, as the emulator does for its ranks. The ones that were
        there after the first drawing are needed for the next.
        """
        gone = [helper for helper in self._helpers if not helper.is_running() or helper.status() == "zombie"]
        return f"process {gone[0].pid} of the loaded programs is gone" if gone else None


def order_visible_cores() -> None:
    """Write the cores that Ray gave this process as the runtime reads them; changes nothing where none are named.

    Ray lists them in any order (2.60: "3,0,1,2"); the runtime takes an increasing list without gaps, see
    `hardware.runtime_cores`.

    Raises:
        DeviceError: there are gaps.
    """
    given = os.environ.get(VISIBLE_CORES, "")
    parts = given.split(",")
    if len(parts) < 2 or not all(part.isdecimal() for part in parts):
        return  # one core, or a range that the user wrote
    cores = sorted(int(part) for part in parts)
    if cores != list(range(cores[0], cores[0] + len(cores))):
        raise DeviceError(
            f"{VISIBLE_CORES}={given}: cores of one pipeline must follow each other; start pipelines of one size on a"
            " node, or fewer of them"
        )
    os.environ[VISIBLE_CORES] = f"{cores[0]}-{cores[-1]}"
