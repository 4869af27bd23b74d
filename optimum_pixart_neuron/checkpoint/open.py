"""Bring a checkpoint onto this machine, each component from where it is: the one place that decides which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from typing import Any

from ..components.common.copied import CopiedPart
from ..components.registry import DENOISER, PARTS
from ..components.scheduler.scheduler import Scheduler
from ..components.transformer.configuration import takes_conditions
from ..errors import CheckpointError
from ..lora.formats import TARGETS
from ..options import any_of
from .adapters import adapters_of
from .address import Address
from .checkpoint import PixArtCheckpoint
from .fetch import download_weights, locate, refuse_uncached
from .few_steps import components_of, with_own_scheduler
from .index import ModelIndex
from .layout import ALPHA, INDEX, KINDS, SIGMA, Kind
from .options import CheckpointOptions
from .sources import Source
from .weights import ComponentWeights, WeightNames


def open_checkpoint(options: CheckpointOptions, *, weights: bool = True) -> PixArtCheckpoint:
    """The checkpoint that `options` name, with its configurations; weights come with `fetch_weights`.

    Each component comes from the option of its name if that is given, else from `options.model`, else from
    `options.components_model`.

    Args:
        weights: whether `fetch_weights` comes next, so that without network missing weights are named at once.

    Raises:
        CheckpointError: it is no PixArt checkpoint, does not fit together, or cannot be downloaded.
    """
    chosen = _elsewhere(options)
    sources = {name: _chosen(name, text, options, weights) for name, text in chosen.items()}
    open_ones = [name for name in PARTS if name not in sources]
    own = locate(_model(options), open_ones, options, weights=weights)
    index = own.index()
    check_kind(_kind(own, index, options), options)
    lacking = []
    for name in open_ones:
        if _belongs_to(own, index, name):
            sources[name] = own.component(name)
        elif not PARTS[name].optional:
            lacking.append(name)
    rest = _completing(own, index, lacking, sources, options, weights) if lacking else None
    if rest is not None:
        sources |= {name: rest.component(name) for name in lacking}
    sources, notes = _with_variants(sources, options.variant)
    refuse_uncached(sources, options, weights=False, name_weights=weights)
    base, base_index = (own, index) if index is not None else (rest, rest.index() if rest else None)
    copied = _copied(sources, base, base_index, options)
    checkpoint = PixArtCheckpoint(
        source=options.model,
        sources={name: sources[name] for name in PARTS if name in sources},
        model_index={},
        copied=copied,
        notes=(*_origins(sources, options.model), *notes, *_others(base_index)),
        named=_named(base_index, whole=DENOISER.part.name not in chosen and rest is None),
    )
    checkpoint.check()
    adapters = adapters_of(options, {name: checkpoint.config(name) for name in TARGETS})
    notes = (*checkpoint.notes, *_notes(checkpoint), *(each.describe() for each in adapters))
    model_index = _model_index(base_index, copied, checkpoint.kind)
    return replace(checkpoint, model_index=model_index, notes=notes, adapters=adapters, named=checkpoint.kind)


def _named(index: ModelIndex | None, *, whole: bool) -> Kind | None:
    """What the index of a checkpoint says that it is; of what is put together PixArt-Alpha may be either."""
    kind = KINDS.get(index.class_name or "") if index else None
    return kind if whole or kind is SIGMA else None


def fetch_weights(options: CheckpointOptions, checkpoint: PixArtCheckpoint) -> None:
    """Download the weight files that the export reads; a CheckpointError names a missing or unreadable one."""
    compiled = [name for name in checkpoint.sources if PARTS[name].weights is not None]
    download_weights({name: checkpoint.sources[name] for name in compiled}, options)
    for name in compiled:
        checkpoint.weights(name)


def open_part(name: str, options: CheckpointOptions) -> tuple[dict[str, Any], ComponentWeights]:
    """One compiled part that its own option names, as a pipeline or by itself: its `config.json` and its weights.

    Raises:
        CheckpointError: there is none, it cannot be downloaded, or no export could be made of it.
    """
    sources, _ = _with_variants({name: _chosen(name, getattr(options, name), options, weights=True)}, options.variant)
    refuse_uncached(sources, options, weights=False)
    download_weights(sources, options)
    alone = PixArtCheckpoint(source=options.model, sources=sources, model_index={})
    part = PARTS[name]
    if part.check is not None:
        part.check(alone)
    return alone.config(name), alone.weights(name)


def pipeline_class(options: CheckpointOptions) -> str | None:
    """Name of the diffusers pipeline that the options make; None for what is none. Reads a few small files.

    A PixArt transformer alone counts as PixArt-Sigma; `open_checkpoint` completes it, and sees what comes of that.

    Raises:
        CheckpointError: the model does not exist, cannot be reached, or does not say what it is.
    """
    own = locate(_model(options), [name for name in PARTS if name not in _elsewhere(options)], options)
    return _kind(own, own.index(), options)


def check_kind(found: str | None, options: CheckpointOptions) -> None:
    """Refuse other pipelines than those of PixArt: a CheckpointError says what the model is.

    Args:
        found: what `pipeline_class` says of the options.
    """
    if found is None:
        raise CheckpointError(
            f"--model {options.model} is not a diffusers checkpoint: it has no {INDEX}, and no {DENOISER.part.name} of"
            f" {any_of(KINDS)}"
        )
    if found not in KINDS:
        raise CheckpointError(
            f"--model {options.model} is a {found}, not a {any_of(KINDS)}; other pipelines are exported by"
            " optimum-neuron, with the Neuron SDK"
        )


def _elsewhere(options: CheckpointOptions) -> dict[str, str]:
    """Parts that the user takes from another checkpoint, and its name."""
    flags = [name for name, part in PARTS.items() if part.flag_help]
    return {name: text for name in flags if (text := getattr(options, name, None)) is not None}


def _model(options: CheckpointOptions) -> Address:
    address = Address.parse("--model", options.model)
    if address.folder is None:
        address = replace(address, revision=options.revision)
    return address.below(options.subfolder)


def _kind(own: Source, index: ModelIndex | None, options: CheckpointOptions) -> str | None:
    denoiser = DENOISER.part.name
    given = denoiser in _elsewhere(options)
    if index is not None:
        if index.class_name is None:
            raise CheckpointError(f"{own.folder / INDEX} does not name a pipeline in its _class_name")
        return SIGMA.class_name if given and index.class_name == ALPHA.class_name else index.class_name
    inside = own.component(denoiser)
    # What the download cache lacks is refused later, with the names of the files.
    expected = own.cached_only and own.holds(denoiser) and not (inside.folder / "config.json").exists()
    return SIGMA.class_name if given or expected or inside.is_component(denoiser) else None


def _chosen(component: str, text: str, options: CheckpointOptions, weights: bool) -> Source:
    """What the option of a component names: a pipeline that holds it, or the component itself."""
    address = Address.parse(f"--{component}", text)
    source = locate(address, [component], options, weights=weights)
    if not source.holds(component) and not source.is_component(component):
        if source.cached_only and "config.json" not in source.files:
            return source.component(component)  # refused with the names of its missing files
        raise CheckpointError(
            f"{address.flag} {text} holds no {component}/, and is no {component} of PixArt by its config.json"
        )
    return source.component(component)


def _belongs_to(own: Source, index: ModelIndex | None, component: str) -> bool:
    """Whether a component is taken from the model itself; an index that leaves it out or null goes before a folder."""
    listed = index is None or component in index.entries
    there = own.holds(component) or (index is None and own.is_component(component))
    # Without network, what is listed is there and may be missing in the download cache, which is refused later.
    return listed and (there or (index is not None and own.cached_only))


def _completing(
    own: Source,
    index: ModelIndex | None,
    lacking: list[str],
    sources: Mapping[str, Source],
    options: CheckpointOptions,
    weights: bool,
) -> Source:
    """Where the lacking components come from.

    A checkpoint with a model_index.json says that it is whole, so it is completed only if the user asks for that.
    """
    if index is not None and options.components_model is None:
        raise CheckpointError(
            f"{options.model} has no {lacking[0]}; an export needs it, from another checkpoint with"
            f" {'--' + lacking[0] + ' or ' if PARTS[lacking[0]].flag_help else ''}--components_model"
        )
    usual = options.components_model or _usual_components(sources, options)
    address = Address.parse("--components_model", usual)
    source = locate(address, lacking, options, weights=weights)
    for name in lacking:
        if not source.holds(name) and not source.cached_only:
            raise CheckpointError(
                f"neither {options.model} nor --components_model {address.name} has a {name}; an export needs it"
            )
    return source


def _usual_components(sources: Mapping[str, Source], options: CheckpointOptions) -> str:
    """What completes a transformer, by itself: PixArt-Alpha's is known by its conditions, or by its repository."""
    denoiser = DENOISER.part.name
    if denoiser not in sources:
        return SIGMA.components_model
    known = components_of(sources)
    if known is not None:
        return known
    alone = PixArtCheckpoint(source=options.model, sources={denoiser: sources[denoiser]}, model_index={})
    try:
        return (ALPHA if takes_conditions(alone.config(denoiser)) else SIGMA).components_model
    except CheckpointError:  # said later, with the others that are missing or wrong
        return SIGMA.components_model


def _with_variants(sources: dict[str, Source], variant: str | None) -> tuple[dict[str, Source], tuple[str, ...]]:
    """Give each component the variant if it has it, as diffusers does (0.35, `variant_compatible_siblings`).

    Where no component has it, all keep it and are refused for lack of it.
    """
    if variant is None:
        return sources, ()
    stems = {name: PARTS[name].stem for name in sources if PARTS[name].weights is not None}
    found = {
        choice: {name for name, stem in stems.items() if WeightNames.among(sources[name].files, stem, choice)}
        for choice in (variant, None)
    }
    plain = [name for name in stems if found[variant] and name in found[None] - found[variant]]
    chosen = {
        name: replace(source, variant=None if name in plain else variant) if name in stems else source
        for name, source in sources.items()
    }
    return chosen, (f"{', '.join(plain)}: no {variant} weights, the plain ones are taken",) if plain else ()


def _origins(sources: Mapping[str, Source], model: str) -> list[str]:
    """A line for each other checkpoint that components come from."""
    models = {name: sources[name].model for name in PARTS if name in sources}
    others = dict.fromkeys(other for other in models.values() if other != model)
    return [f"{', '.join(name for name in models if models[name] == other)} from {other}" for other in others]


def _others(index: ModelIndex | None) -> list[str]:
    """A line for components of other pipelines, which diffusers leaves out too."""
    if not index or not index.others:
        return []
    return [f"{', '.join(index.others)} in {INDEX}: PixArt has no such component, it is left out"]


def _notes(checkpoint: PixArtCheckpoint) -> list[str]:
    """What the parts themselves have to say."""
    of_parts = [part.notes(checkpoint) for name, part in PARTS.items() if part.notes and name in checkpoint.sources]
    return [note for notes in (*of_parts, *(part.notes for part in checkpoint.copied.values())) for note in notes]


def _copied(
    sources: Mapping[str, Source], base: Source | None, index: ModelIndex | None, options: CheckpointOptions
) -> dict[str, CopiedPart]:
    """Tokenizer and scheduler, of the classes that their own checkpoint's index names."""
    copied = {}
    for name, part in PARTS.items():
        if part.copied is None:
            continue
        own = index.entries.get(name) if index and base and base.model == sources[name].model else None
        read = part.copied.read(sources[name].folder, own, CheckpointError)
        if isinstance(read, Scheduler):
            read = with_own_scheduler(read, sources, options.lora_model_ids)
        copied[name] = read
    return copied


def _model_index(index: ModelIndex | None, copied: Mapping[str, CopiedPart], kind: Kind) -> dict[str, Any]:
    """The index of the export: PixArt's, with the classes that are loaded, whatever the checkpoint's own says."""
    written: dict[str, Any] = {name: [part.library, part.class_name] for name, part in PARTS.items()}
    written |= {name: [part.library, part.class_name] for name, part in copied.items()}
    written["_class_name"] = kind.class_name
    written["_diffusers_version"] = (index and index.diffusers_version) or version("diffusers")
    return dict(sorted(written.items()))  # the order in which diffusers writes it
