"""PixArt-Sigma in optimum-neuron's registry of the compile cache: what was compiled, for `optimum-cli neuron cache`.

The host's registry (0.4.5 `optimum/neuron/cache`) knows entries of single models and of Stable Diffusion; of any other
pipeline its `MultiModelCacheEntry` raises NotImplementedError. (0.4.6.dev4 takes any with a transformer, by the whole
configuration of it, so that a fine-tune with other settings is another one; it gives its entries an argument more.)
Ours is that class with PixArt-Sigma added, and `register_cache_entry` puts it where the host looks. What the host
cannot do: its table has columns for batch, length, ranks, dtype and instance only, so sizes and mode stand in the last
one; and it lists what was compiled, while programs themselves are found by graph and flags.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from optimum.neuron.cache.entries import multi_model
from optimum.neuron.cache.entries.cache_entry import CACHE_WHITE_LIST, ModelCacheEntry
from transformers import PretrainedConfig

from ..components.registry import COMPONENTS, DENOISER
from .recipes import digest_of

MODEL_TYPE = "pixart-sigma"
_NEURON = "neuron"
_ADDED = ("model_type", _NEURON)  # by exports, to the checkpoint's configurations
_PARTS = tuple(
    dict.fromkeys(component.part.name for component in COMPONENTS.values() if component.required and component.plan)
)
"""Whose configurations tell one architecture from another; the host leaves the VAE's out, too."""
_SIZES = "sizes"
_MOST_SIZES = 3
"""That are printed by name; an export of all of a checkpoint's has 33."""


class _Shown(str):
    """What an entry is found by, and more where it is printed."""

    shown = ""

    def __str__(self) -> str:
        return self.shown


class MultiModelCacheEntry(multi_model.MultiModelCacheEntry):
    """The host's entry, for PixArt-Sigma as well. Entries are read back by the name of this class."""

    def __init__(self, model_id: str, configs: dict[str, PretrainedConfig | dict[str, Any]], **of_host: Any) -> None:
        if not _is_pixart(configs):
            super().__init__(model_id, configs, **of_host)
            return
        self._configs = {name: _cleaned(config) for name, config in configs.items() if name in _PARTS}
        ModelCacheEntry.__init__(self, model_id, MODEL_TYPE, task=None)

    @property
    def neuron_config(self) -> dict[str, Any]:
        """What the host's `lookup` filters by and prints."""
        if self.model_type != MODEL_TYPE:
            return super().neuron_config
        section = self._configs[DENOISER.part.name].get(_NEURON, {})
        parallel = section.get("parallel") or {}
        sizes = [f"{wide}x{tall}" for tall, wide in section.get(_SIZES, ())]
        more = [f"and {len(sizes) - _MOST_SIZES} more"] if len(sizes) > _MOST_SIZES else []
        mode = parallel.get("mode") or "one core"
        target = _Shown(section.get("target"))
        target.shown = " ".join([target, *sizes[:_MOST_SIZES], *more, mode])
        return {
            "batch_size": section.get("static_batch_size"),
            "sequence_length": section.get("static_sequence_length"),
            "tensor_parallel_size": section.get("tensor_parallel_size"),
            "tp_degree": section.get("tensor_parallel_size"),
            "torch_dtype": section.get("torch_dtype"),
            "target": target,
        }

    def arch_digest(self) -> str:
        """Of the architecture alone, equal for a checkpoint and for every fine-tune of it."""
        if self.model_type != MODEL_TYPE:
            return super().arch_digest()
        plain = {
            name: {key: value for key, value in config.items() if key not in _ADDED}
            for name, config in self._configs.items()
        }
        return digest_of({"model_type": MODEL_TYPE, "configs": plain})


def register_cache_entry() -> None:
    """Have optimum-neuron read and make entries of PixArt-Sigma. Idempotent."""
    multi_model.MultiModelCacheEntry = MultiModelCacheEntry


def cache_entry(
    model: str,
    configs: Mapping[str, Mapping[str, Any]],
    section: Mapping[str, Any],
    sizes: Sequence[tuple[int, int]],
) -> MultiModelCacheEntry:
    """The entry of an export.

    Args:
        model: id on the Hub, or a name.
        configs: of the checkpoint's parts, by name.
        section: the `neuron` section of the denoiser's `config.json`.
        sizes: height and width in pixels of each image size, the default first.
    """
    whole = {name: dict(configs[name]) for name in _PARTS}
    whole[DENOISER.part.name][_NEURON] = {**section, _SIZES: [list(size) for size in sizes]}
    return MultiModelCacheEntry(model, whole)


def _is_pixart(configs: Mapping[str, Any]) -> bool:
    denoiser = configs.get(DENOISER.part.name)
    return isinstance(denoiser, dict) and denoiser.get("_class_name") == DENOISER.part.class_name


def _cleaned(config: PretrainedConfig | dict[str, Any]) -> dict[str, Any]:
    content = config.to_diff_dict() if isinstance(config, PretrainedConfig) else config
    return {name: value for name, value in content.items() if name not in CACHE_WHITE_LIST}
