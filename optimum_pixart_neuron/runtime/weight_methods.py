"""Methods of a loaded pipeline that change its weights: LoRAs as diffusers' pipelines have them, and fine-tunes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from ..artifact.compiled import PROGRAM_FILE, WEIGHTS_FOLDER
from ..checkpoint.adapters import open_adapter
from ..checkpoint.open import open_part
from ..checkpoint.options import CheckpointOptions
from ..components.registry import DENOISER, PROMPT_ENCODER
from ..errors import InvalidArgument
from .loaded_adapters import LoadedAdapters
from .rank_weights import Copies, ExportedWeights, HeldWeights, ModuleWeights, StoredWeights, WholeWeights
from .turns import CallsOrChange, OneAtATime

if TYPE_CHECKING:
    from ..artifact.compiled import Compiled
    from ..components.component import Component
    from .prompt_cache import PromptCache

logger = logging.getLogger(__name__)


class TakesOtherWeights:
    """For a pipeline that has its programs as attributes, by component."""

    _adapters: LoadedAdapters
    _prompt_cache: PromptCache | None
    model_save_dir: Any

    def _compiled(self, component: Component) -> Compiled:
        raise NotImplementedError

    def _with_rank_weights(self, calls: CallsOrChange) -> LoadedAdapters:
        """What has the weight files, and the program, of each component that adapters are for."""
        found = {}
        for component in (DENOISER, PROMPT_ENCODER):
            model = getattr(self, component.name).model
            # Programs of several sizes are in one file, with the weights that they share.
            copies = {
                id(copy): copy for each in getattr(model, "programs", [model]) for copy in getattr(each, "copies", ())
            }
            folder = Path(self.model_save_dir) / component.name
            found[component.name] = _changeable(component, folder, self._compiled(component), [*copies.values()])
        return LoadedAdapters(found, calls, self._forget_prompts)

    def _forget_prompts(self, changed: str) -> None:
        if changed == PROMPT_ENCODER.name and self._prompt_cache is not None:
            self._prompt_cache.clear()

    def load_lora_weights(
        self,
        pretrained_model_name_or_path_or_dict: str | Path,
        adapter_name: str | None = None,
        *,
        weight_name: str | None = None,
        subfolder: str = "",
        revision: str | None = None,
        token: bool | str | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
    ) -> None:
        """Load a LoRA: the programs begin again with changed weights, nothing is compiled or written.

        The first one is used at once, with weight 1; later ones when `set_adapters` names them. Waits for calls that
        are under way; when it fails, the pipeline draws as before.

        Args:
            pretrained_model_name_or_path_or_dict: folder, safetensors file, or `id[@revision][/path]` on the Hub, of
                peft's, diffusers' or kohya's form.
            adapter_name: for `set_adapters`; "default_0" and so on if left out.
            weight_name: file in there; the one that there is if left out.
            subfolder: of the folder or repository.
            revision: branch, tag or commit of a download.
            token: access token of a download.
            cache_dir: where downloads are kept.
            local_files_only: ask nobody.

        Raises:
            CheckpointError: it cannot be found, or does not fit what is compiled; names the tensor.
            InvalidArgument: the name is taken, or this is called from inside a call.
            PixArtNeuronError: a program holds its weights in its machine code.
            LoadError: the runtime does not begin with the weights.
        """
        name = self._adapters.next_name() if adapter_name is None else adapter_name
        self._adapters.check_name(name)
        model = pretrained_model_name_or_path_or_dict
        if not isinstance(model, (str, Path)):
            raise InvalidArgument(f"load_lora_weights: expected a folder, file or id, given {type(model).__name__}")
        place = f"{model}/{subfolder}" if subfolder else str(model)
        where: dict[str, Any] = {"token": token, "cache_dir": cache_dir, "local_files_only": local_files_only}
        options = CheckpointOptions(model=place, **where)
        geometry = self._adapters.geometry()
        named = open_adapter("load_lora_weights:", place, weight_name, options, geometry, name=name, revision=revision)
        self._adapters.add(replace(named, adapter=named.adapter.in_memory()))

    def set_adapters(
        self, adapter_names: str | Sequence[str], adapter_weights: float | Sequence[float | None] | None = None
    ) -> None:
        """Use these of the loaded LoRAs and no others, merged in this order; waits as `load_lora_weights` does.

        Args:
            adapter_names: one or several; an empty list for none.
            adapter_weights: factor of all, or of each; 1 if left out.

        Raises:
            InvalidArgument: there is no such adapter, or a weight is no finite number.
            LoadError: the runtime does not begin with the weights.
        """
        self._adapters.use(adapter_names, adapter_weights)

    def unload_lora_weights(self) -> None:
        """Forget all LoRAs: the weights are again, to the bit, what they were without them."""
        self._adapters.remove()

    def get_active_adapters(self) -> list[str]:
        """Names of the LoRAs in use, in the order in which they are merged."""
        return list(self._adapters.active)

    def get_list_adapters(self) -> dict[str, list[str]]:
        """Names of the loaded LoRAs that change each component."""
        return {name: names for name, names in self._adapters.loaded.items() if names}

    def load_transformer(
        self,
        model: str | Path | nn.Module | None,
        *,
        variant: str | None = None,
        token: bool | str | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
    ) -> None:
        """Have the weights of another transformer of the same geometry in place of the export's.

        LoRAs in use stay in use. Waits as `load_lora_weights` does; when it fails, the pipeline draws as before.

        Args:
            model: folder or `id[@revision][/path]` on the Hub of a pipeline or of a transformer, or a model of
                diffusers, which is copied; None for the export's own.
            variant: of the weight files, such as "fp16".
            token: access token of a download.
            cache_dir: where downloads are kept.
            local_files_only: ask nobody.

        Raises:
            CheckpointError: it cannot be found, or is of another geometry or type; names key or weight.
            InvalidArgument: this is called from inside a call.
            PixArtNeuronError: a program holds its weights in its machine code.
            LoadError: the runtime does not begin with the weights.
        """
        exported = self._adapters.exported(DENOISER)
        if model is None:
            self._adapters.replace(DENOISER, None)
            return
        weights: WholeWeights
        if isinstance(model, nn.Module):
            config = {"_class_name": type(model).__name__, **getattr(model, "config", {})}
            weights = ModuleWeights.of(model)
        else:
            part, where = DENOISER.part.name, {"token": token, "cache_dir": cache_dir}
            given = {part: str(model), "variant": variant, "local_files_only": local_files_only, **where}
            config, stored = open_part(part, CheckpointOptions(model=str(model), **given))
            weights = StoredWeights.of(stored)
        exported.check_config(config)
        exported.check(weights)
        self._adapters.replace(DENOISER, weights)

    def _warn_of_unsaved_weights(self) -> None:
        if not self._adapters.is_own:
            logger.warning(
                "the export is saved with its own weights; what load_lora_weights and load_transformer brought is not"
                " in it: merge that at export"
            )


def _changeable(
    component: Component, folder: Path, compiled: Compiled, copies: Sequence[OneAtATime]
) -> tuple[ExportedWeights, OneAtATime | Copies] | None:
    """The weights of a component with the program that takes others; None where it takes none.

    Args:
        copies: of its program, if this package made it.
    """
    if (folder / WEIGHTS_FOLDER).is_dir() and len(copies) == 1:
        return ExportedWeights(component, folder, compiled), copies[0]
    if copies and not compiled.inline_weights_to_neff and compiled.files == [PROGRAM_FILE]:
        return HeldWeights(component, folder, compiled), Copies(copies)
    return None
