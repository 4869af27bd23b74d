"""Serves the emulated SDK's packages from `emulator/sdk/` under their real names, only where the real ones are absent.

torch_xla is special: accelerate takes any importable torch_xla for an XLA device. It gets no distribution metadata,
which is what transformers and diffusers look at, and stays invisible to an import that comes from accelerate.
"""

import importlib.machinery
import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import FrameType, ModuleType

_SDK = Path(__file__).parent / "sdk"
PACKAGES = ("torch_neuronx", "torch_xla", "neuronxcc", "libneuronxla", "neuronx_distributed")

_ANY = importlib.metadata.DistributionFinder.Context()


class EmulatedDistribution(importlib.metadata.Distribution):
    """Name and version of an emulated package; it has no files."""

    def __init__(self, name: str, version: str):
        self._text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"

    def read_text(self, filename: str) -> str | None:
        return self._text if filename == "METADATA" else None

    def locate_file(self, path):
        return _SDK / path


class EmulatedSdkFinder:
    """Meta-path finder, asked after all others: a real package always wins."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        top = name.partition(".")[0]
        if top not in PACKAGES or name != top:
            return None  # submodules are found through their package's own path
        if name == "torch_xla":
            if _asking_package() == "accelerate":
                return None
            _let_accelerate_probe()
        return importlib.machinery.PathFinder.find_spec(name, [str(_SDK)])

    @staticmethod
    def find_distributions(
        context: importlib.metadata.DistributionFinder.Context = _ANY,
    ) -> Iterable[importlib.metadata.Distribution]:
        from .release import distributions

        wanted = None if context.name is None else context.name.lower().replace("_", "-").replace(".", "-")
        return [
            EmulatedDistribution(name, version)
            for name, version in distributions().items()
            if wanted is None or wanted == name
        ]


def is_installed() -> bool:
    """Whether the finder was added."""
    return EmulatedSdkFinder in sys.meta_path


def install() -> None:
    """Add the finder once; RuntimeError when a real SDK package is installed."""
    if is_installed():
        return
    for name in PACKAGES:
        if name in sys.modules or importlib.util.find_spec(name) is not None:
            raise RuntimeError(f"the emulator refuses to shadow a real SDK: {name} is installed, use it instead")
    sys.meta_path.append(EmulatedSdkFinder)
    importlib.invalidate_caches()


def _asking_package() -> str:
    """Top-level package of the code whose import statement or `find_spec` call led here."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module != __name__ and not module.startswith(("importlib", "_frozen_importlib")):
            return module.partition(".")[0]
        frame = frame.f_back
    return ""


def _let_accelerate_probe() -> None:
    """Import accelerate, if there is one, before torch_xla is in `sys.modules`, where the finder cannot hide it."""
    if "accelerate" not in sys.modules and importlib.util.find_spec("accelerate") is not None:
        importlib.import_module("accelerate")
