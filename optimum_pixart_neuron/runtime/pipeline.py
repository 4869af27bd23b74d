"""What the pipelines that users call have in common: they are optimum-neuron's, without its limits.

The denoising loop is diffusers' own. What the compiled programs cannot take as it comes is adapted at their border:
any number of rows (`batching.py`), and sizes that the checkpoint's resolution bins map to the compiled one.
"""

import copy
import os
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, NoReturn

from diffusers import PixArtSigmaPipeline, SchedulerMixin
from optimum.neuron.modeling_diffusion import NeuronDiffusionPipelineBase

from ..artifact.checks import check_artifact, check_kind, check_verify
from ..artifact.compiled import Compiled
from ..artifact.loading import load_copied, loading
from ..artifact.pull import is_repository, pull
from ..artifact.saving import save_copy
from ..checkpoint.layout import Kind
from ..components.component import Component
from ..components.registry import COMPONENTS, DENOISER, IMAGE_DECODER, PROMPT_ENCODER
from ..components.scheduler.spec import SCHEDULER
from ..components.transformer.spec import EMBEDDINGS, GUIDANCE_SCALE, LATENTS, MASK
from ..components.vae.tiling import TiledDecoder
from ..deployment.sides import Sides, pixels, resolution_bins
from ..errors import InvalidArgument, PixArtNeuronError, ProgramInputError
from ..neuron.machine import Machine
from ..neuron.sdk import ensure_sdk
from .arguments import check_own_arguments, check_place, check_scheduler, named, refuse_options, unknown_arguments
from .batching import BatchedProgram
from .call import CompiledCall
from .compile_first import compile_and_load
from .followers import Followed, followed_at_last, followers
from .guidance import GuidedInterval, Interval, check_interval
from .loaded_programs import for_one_call, load_one, load_programs, program_inputs, runnable
from .prompt_cache import DEFAULT_LIMIT, PromptCache
from .push_forms import PushToHub
from .signatures import WithExportOptions, with_arguments_of
from .sizes import CompiledSizes, drawing_at
from .swapped_scheduler import scheduler_files, settings_of
from .taken_cores import check_taken, note_taken
from .turns import CallsOrChange, SchedulerTurns, StaysInItsProcess, Turn, check_process
from .weight_methods import TakesOtherWeights

_COPIED = "_copied"
"""Key of tokenizer and scheduler in what the host hands on to the constructor as it is, the pipeline's index."""


class CompiledPipeline(TakesOtherWeights, NeuronDiffusionPipelineBase):
    """A pipeline of PixArt on NeuronCores; its classes are in `pixart.py`, each in front of the stock one of its name.

    Class attributes:
        KIND: of pipeline.
    """

    KIND: ClassVar[Kind]
    _prompt_cache: PromptCache | None = None
    _instance: str | None = None

    def __init__(self, **kwargs: Any) -> None:
        self._in_its_process = StaysInItsProcess()  # the first attribute: what pickles the others meets it before them
        copied = kwargs["config"].pop(_COPIED, {})
        super().__init__(**{**kwargs, **copied})
        self.set_progress_bar_config(disable=None)  # drawn on terminals only
        for component in COMPONENTS.values():
            part = vars(self).get(component.name)  # diffusers answers for what it has in its index, too
            if part is not None:
                part.model = runnable(component, self._compiled(component), part.model)
        self._calls = CallsOrChange()
        self._adapters = self._with_rank_weights(self._calls)
        decoder, tiles = getattr(self, IMAGE_DECODER.name), self._latent_sizes(IMAGE_DECODER)
        if not set(self._latent_sizes(DENOISER)) <= set(tiles):
            decoder.model = TiledDecoder(decoder.model, tiles, self.vae_scale_factor)
        encoder = getattr(self, PROMPT_ENCODER.name)
        if isinstance(encoder.model, BatchedProgram):
            encoder.model = self._prompt_cache = PromptCache(encoder.model)
        self._encoding = Turn()
        self.vae.encode = self.vae.encode if self.vae.encoder else _no_encoder
        self._compiled_call = self._describe_call()
        self._scheduler_turns = SchedulerTurns()
        self._loaded_scheduler = settings_of(self.scheduler)
        self._process = os.getpid()

    @classmethod
    def _from_pretrained(cls, model_id: str | Path, config: dict[str, Any] | None = None, **kwargs: Any):
        """As the host's, but no library or class is imported because a file names it.

        Args:
            model_id: folder of the artifacts, checked.
            config: not asked for; the host goes by the names of the components in it.
        """
        folder = Path(model_id)
        index = {"_class_name": cls.KIND.class_name, _COPIED: load_copied(folder)}
        pipeline = super()._from_pretrained(folder, config=index, **kwargs)
        for component in followers(folder):
            pipeline._let_follow(component, folder / component.name)
        return pipeline

    def _let_follow(self, component: Component, folder: Path) -> None:
        """Have a component run on what another one gives; it becomes an attribute of the pipeline, as the others."""
        compiled, program = load_one(component, folder)
        part = SimpleNamespace(model=program, config=SimpleNamespace(neuron=compiled.model_dump(exclude_unset=True)))
        self.__dict__[component.name] = part  # past diffusers' `__setattr__`, which would register it
        followed = followed_at_last(component)
        before = getattr(self, followed.name)
        before.model = Followed(before.model, [given.name for given in followed.inputs], component, part)

    def _compiled(self, component: Component) -> Compiled:
        """What a component was compiled for."""
        compiled = Compiled.of(vars(getattr(self, component.name).config), component.name)
        assert compiled is not None  # `check_artifact` refuses others before anything is loaded
        return compiled

    def _latent_sizes(self, component: Component) -> list[tuple[int, int]]:
        """Of what the component's programs take, in cells, each once."""
        sizes = [each.sizes for each in self._compiled(component).each()]
        return list(dict.fromkeys((each["height"], each["width"]) for each in sizes))

    @staticmethod
    def load_model(data_parallel_mode: str, tensor_parallel_size: int, **kwargs: Any) -> dict[str, Any]:
        """Load the programs; those of one core are copied to every core that the pipeline has.

        Folders without our `parallel` section are loaded as the host does.

        Raises:
            DeviceError: the runtime of this process has taken fewer cores.
        """
        programs = {
            name.removesuffix("_path"): path
            for name, path in kwargs.items()
            if isinstance(path, Path) and path.is_file()
        }
        denoiser = programs[DENOISER.name].parent
        check_taken(denoiser.parent, tensor_parallel_size)
        note_taken(Machine.of(ensure_sdk()).cores)
        compiled = Compiled.read(denoiser)
        if compiled and compiled.is_ours:
            return load_programs(programs, tensor_parallel_size)
        return NeuronDiffusionPipelineBase.load_model(data_parallel_mode, tensor_parallel_size, **kwargs)

    @classmethod
    @WithExportOptions
    def from_pretrained(
        cls,
        model_id: str | Path,
        export: bool = False,
        verify: str = "sizes",
        *,
        scheduler: SchedulerMixin | None = None,
        prompt_cache: int = DEFAULT_LIMIT,
        revision: str | None = None,
        token: bool | str | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        force_download: bool = False,
        trusted_owners: Collection[str] | None = None,
        **options: Any,
    ):
        """Load a compiled pipeline, or compile a checkpoint and load it.

        Args:
            model_id: a compiled pipeline's folder or Hub id; with `export`, a checkpoint's.
            export: compile first. Takes the options of `optimum-cli export neuron` by name, see `ExportOptions`;
                `output` is where the artifacts go, a temporary folder that lives as long as the pipeline if left out.
            verify: how closely the files are held against the manifest before any is loaded: "sizes", "full" or
                "none", see `check_artifact`. What is downloaded is always verified in full.
            scheduler: in place of the folder's, as diffusers takes it.
            prompt_cache: so many embeddings of prompts are kept, those used last; 0 keeps none.
            revision: branch, tag or commit of a download.
            token: access token of a download; by default the one that huggingface_hub finds.
            cache_dir: where downloads are kept, by default huggingface_hub's cache.
            local_files_only: load what was downloaded before, and ask nobody.
            force_download: download again what is there.
            trusted_owners: users and organizations of the Hub; a repository of anybody else is refused before any of
                its files is downloaded. Without it a warning names the owner. A local folder has none.
            options: of the export.

        Raises:
            InvalidArgument: an argument that there is not; names the nearest. Or one that has no meaning without
                `export`.
            ArtifactError: the folder is not whole, is not for this machine, or is of the other class's pipeline.
            HubError: it cannot be downloaded, or its owner is not trusted.
            LoadError: the runtime or optimum-neuron refuses its programs.
            InvalidExportOption: an option that the export does not know, or a value it cannot have.
            DeviceError: this machine has no NeuronCore, or the runtime of this process has taken fewer cores. What
                was compiled and cannot be loaded is kept, and named.
        """
        check_verify(verify)
        check_own_arguments(scheduler=scheduler, prompt_cache=prompt_cache)
        download = {
            "revision": revision,
            "token": token,
            "cache_dir": cache_dir,
            "local_files_only": local_files_only or None,
            "force_download": force_download or None,
            "trusted_owners": trusted_owners,
        }
        download = {name: value for name, value in download.items() if value is not None}
        if export:
            if trusted_owners is not None:
                raise InvalidArgument("trusted_owners: a checkpoint holds no programs; leave it out with export=True")
            given = {**download, **options}
            pipeline = compile_and_load(model_id, given, lambda folder: cls._load(folder, verify), cls.KIND)
        else:
            refuse_options(options, model_id, cls.from_pretrained)
            pipeline = cls._load(cls._find(model_id, download), verify)
        if scheduler is not None:
            pipeline.scheduler = scheduler
        if pipeline.prompt_cache is not None:
            pipeline.prompt_cache.limit = prompt_cache
        return pipeline

    @staticmethod
    def _find(model_id: str | Path, download: dict[str, Any]) -> Path:
        """The folder of a compiled pipeline, downloaded if it is none of this machine."""
        check_place("model_id", model_id, "a folder or an id on the Hub")
        folder = Path(os.path.expanduser(model_id))
        if not is_repository(folder if str(model_id).startswith("~") else model_id):
            return folder
        Machine.of(ensure_sdk())  # without a NeuronCore there is nothing to download for
        return pull(str(model_id), **download)

    @classmethod
    def _load(cls, folder: Path, verify: str):
        manifest = check_artifact(folder, ensure_sdk(), verify=verify)
        check_kind(folder, cls.KIND)
        with loading(folder):
            pipeline = cls._from_pretrained(folder.absolute())  # it reads there again, wherever the process is then
        pipeline._instance = manifest.instance if manifest else pipeline._compiled(DENOISER).compiled_for
        if manifest and manifest.call:
            pipeline._compiled_call = replace(pipeline._compiled_call, defaults=manifest.call.arguments())
        return pipeline

    push_to_hub = PushToHub()

    def save_pretrained(self, save_directory: str | Path, push_to_hub: bool = False, **push_options: Any) -> None:
        """Copy the compiled pipeline, with the scheduler that it has now, into a folder that both classes load.

        Args:
            save_directory: made if it does not exist; files in it that are not of an export stay as they are. In the
                pipeline's own folder only a scheduler is replaced.
            push_to_hub: upload it as well.
            push_options: of `push_to_hub`; the repository has the folder's name if none is given.

        Raises:
            InvalidArgument: an argument that there is not, or a scheduler that is not diffusers' own.
            ArtifactError: the folder cannot take it.
            HubError: it cannot be pushed.
        """
        if push_options and not push_to_hub:
            raise InvalidArgument(unknown_arguments(push_options, named(self.save_pretrained), of="save_pretrained"))
        check_place("save_directory", save_directory, "a folder")
        folder = Path(os.path.expanduser(save_directory))
        save_copy(Path(self.model_save_dir), folder, self.changed_files())
        if push_to_hub:
            own_name = {} if "repository_id" in push_options else {"repo_id": folder.name}
            self.push_to_hub(**{**own_name, **push_options})

    def changed_files(self) -> dict[str, bytes]:
        """Content of the files of the export that describe another scheduler than the pipeline has now, by path."""
        self._warn_of_unsaved_weights()
        if settings_of(self.scheduler) == self._loaded_scheduler:
            return {}
        return scheduler_files(Path(self.model_save_dir), self.scheduler)

    def replace_weights(self, weights: Any = None) -> None:
        """Not offered: the host's method skips most weights of PixArt and does not say so.

        Raises:
            PixArtNeuronError: always; says what to do instead.
        """
        raise PixArtNeuronError("replace_weights skips weights; give load_transformer the changed model")

    @property
    def call_defaults(self) -> dict[str, Any]:
        """Arguments of a call that the checkpoint was distilled for, which hold where a call does not name them."""
        return dict(self._compiled_call.defaults)

    @property
    def compiled_size(self) -> tuple[int, int]:
        """Height and width in pixels of the images this pipeline makes where a call names no size."""
        return self.compiled_sizes[0]

    @property
    def compiled_sizes(self) -> tuple[tuple[int, int], ...]:
        """Height and width in pixels of every size there is a program for."""
        scale = self.vae_scale_factor
        return tuple((tall * scale, wide * scale) for tall, wide in self._latent_sizes(DENOISER))

    def __repr__(self) -> str:
        """What it was compiled for, and where it lies."""
        denoiser = self._compiled(DENOISER)
        prompts = self._compiled(PROMPT_ENCODER).sizes["batch_size"]
        mode = denoiser.parallel.mode if denoiser.parallel else None
        facts = (
            pixels(*self.compiled_sizes),
            f"batch {prompts} x {denoiser.sizes['batch_size'] // prompts}",
            f"{f'{mode} mode, ' if mode else ''}{denoiser.tensor_parallel_size} rank(s)",
            self._instance or "unknown instance",
            "emulated" if ensure_sdk().emulated else "on NeuronCores",
            *(f"LoRA {name} x {strength:g}" for name, strength in self._adapters.active.items()),
        )
        return f"{type(self).__name__}({', '.join(facts)}; {self.model_save_dir})"

    @with_arguments_of(PixArtSigmaPipeline.__call__)
    def __call__(self, *args: Any, guidance_interval: Interval | None = None, **kwargs: Any):
        """Generate images; arguments and result as those of diffusers' pipeline, but for these.

        Args:
            num_inference_steps, timesteps, guidance_scale: `call_defaults` of the export, or diffusers'.
            height: pixels; the compiled height if left out.
            width: pixels; the compiled width if left out. Of several compiled sizes the first is meant.
            use_resolution_binning: map a size that is not compiled to the checkpoint's nearest resolution, and resize
                and crop the image, as diffusers does; of several compiled sizes to that of the nearest aspect ratio.
            negative_prompt: None for one prompt means the text "none", as in diffusers 0.35, which cleans it so; "" is
                no negative prompt.
            max_sequence_length: tokens of a prompt; can only be the compiled number.
            latents: (images, channels, height / scale, width / scale) in any float dtype; computed in float32.
            prompt_embeds, negative_prompt_embeds: (prompts, compiled tokens, width) in any float dtype.
            prompt_attention_mask, negative_prompt_attention_mask: (prompts, compiled tokens) of 0 and 1.
            guidance_interval: fractions of the schedule between which guidance is computed, as (0.0, 0.7); the other
                steps run the conditional half alone. None for the whole schedule; without guidance it changes nothing.

        Several threads may call at once; each call draws what it draws alone.

        Raises:
            ProgramInputError: an argument that does not fit the compiled programs; raised before any of them runs.
            InvalidArgument: the pipeline has no scheduler, or the class of one.
            DeviceError: this process was forked from the one that loaded the pipeline.
        """
        check_process(self._process)
        fitted = self._compiled_call.fit(*args, **kwargs)
        interval = guidance_interval
        if interval is not None:
            interval = check_interval(interval, self._compiled(DENOISER))
        check_scheduler(self.scheduler)
        with self._calls.call(), self._scheduler_turns.take(self.scheduler) as scheduler:
            call = copy.copy(self)
            steps = for_one_call(getattr(self, DENOISER.name))
            if interval and fitted.get("guidance_scale", GUIDANCE_SCALE) > 1:
                steps.model = GuidedInterval(steps.model, interval, lambda: len(scheduler.timesteps))
            # Past diffusers' `__setattr__`, which would register them.
            call.__dict__.update({SCHEDULER.name: scheduler, DENOISER.name: steps})
            if fitted["use_resolution_binning"]:
                call.image_processor = drawing_at(self._compiled_call.drawn_at(fitted), self.image_processor)
            self._check_scheduler(scheduler, fitted)
            return self.auto_model_class.__call__(call, **fitted)

    def _check_scheduler(self, scheduler: Any, fitted: Mapping[str, Any]) -> None:
        """Refuse, by a ProgramInputError, a call that diffusers' pipeline cannot make with this scheduler."""

    @with_arguments_of(PixArtSigmaPipeline.encode_prompt)
    def encode_prompt(self, *args: Any, **kwargs: Any):
        """Embeddings and masks of prompts; arguments and result as diffusers', at the compiled number of tokens.

        Raises:
            ProgramInputError: another `max_sequence_length`, or an argument that diffusers does not take.
        """
        fitted = self._compiled_call.fit_prompt(*args, **kwargs)
        check_process(self._process)
        with self._calls.call(), self._encoding:  # fast tokenizers refuse a second thread
            return self.auto_model_class.encode_prompt(self, **fitted)

    @property
    def prompt_cache(self) -> PromptCache | None:
        """The embeddings that are kept, with their limit and counts; None for a folder of the stock exporter."""
        return self._prompt_cache

    def to(self, *args: Any, **kwargs: Any):
        """Return the pipeline as it is: its programs are on the cores, and their dtypes are compiled."""
        return self

    def _describe_call(self) -> CompiledCall:
        denoiser, encoder = self._compiled(DENOISER), self._compiled(PROMPT_ENCODER)
        inputs = {given.name: given for given in program_inputs(DENOISER, denoiser)}
        one_batch = not denoiser.is_ours and not self.dynamic_batch_size  # as the host runs its exports
        part = getattr(self, DENOISER.name)
        trained = part.config.sample_size
        sides = Sides.of(trained, patch_size=part.config.patch_size, scale=self.vae_scale_factor)
        return CompiledCall(
            pipeline=self.auto_model_class,
            drawn=CompiledSizes(self.compiled_sizes, resolution_bins(trained), sides),
            embeddings=replace(inputs[EMBEDDINGS], dtype=part.neuron_config.float_dtype),
            mask=inputs[MASK],
            latents=inputs[LATENTS],
            prompts=encoder.sizes["batch_size"] if one_batch else None,
            images=denoiser.sizes["batch_size"] if one_batch else None,
        )


def _no_encoder(*args: Any, **kwargs: Any) -> NoReturn:
    raise ProgramInputError(
        "the VAE encoder is not compiled, text-to-image does not use it; export with --with_vae_encoder"
    )
