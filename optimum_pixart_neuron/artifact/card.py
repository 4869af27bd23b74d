"""The model card of a pushed export, written from its manifest alone; the same manifest makes the same card."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import Any

from huggingface_hub import ModelCardData

from ..components.component import ONE_HALF
from ..components.registry import DENOISER, IMAGE_DECODER, PARTS, PROMPT_ENCODER
from .manifest import EXAMPLE_FILE, Manifest, own_name
from .manifest_records import TensorRecord
from .owners import ARCHIVE_RISK

EXAMPLE_PROMPT = "a photo of an astronaut riding a horse on mars"
"""Of the card's code, and of its picture."""

# Options that name sources, some by folders of the user's disk, as options named like parts of a checkpoint do: the
# table of sources has them.
_SOURCE_OPTIONS = {"subfolder", "components_model", "revision"}

# Of a card on the Hub: `license` as the Hub abbreviates it ("openrail++"), the others where it is "other"
# (huggingface.co/docs/hub/repositories-licenses).
_NAME = re.compile(r"[\w.+-][\w.+ -]{0,99}", re.ASCII)
_LICENCE = {
    "license": _NAME,
    "license_name": _NAME,
    "license_link": re.compile(r"https://[\w.~/?#&=%:+-]{1,400}", re.ASCII),
}

_CARD = """\
---
{metadata}
---
# {name}

{emulated}[{label}]({paper}) compiled for AWS Neuron: {source}, for **{instance}**.

## Use

```python
from optimum.neuron import {pipeline}

pipe = {pipeline}.from_pretrained("{repository}")
image = pipe("{prompt}"{arguments}).images[0]
```

{example}`{pipeline}` of `optimum_pixart_neuron` is called the same way, downloads only the files that
`neuron_manifest.json` lists, checks them, and takes any number of prompts and images.

Load this only if you trust its owner: {risk}.

## Compiled for

{target}

{components}

## Validation

{validation}

## Source and licence

{sources}

{licence}

## Made with

{versions}
"""
_EXAMPLE = """\
![{prompt}]({file})

Drawn by these artifacts, with the defaults of a call and seed 0.

"""
_EMULATED = """\
> [!WARNING]
> Made on the CPU emulator of optimum-pixart-neuron, without the Neuron SDK. **These artifacts run on no Neuron
> device.**

"""
_MARK = "\n<!-- optimum-pixart-neuron wrote this card and replaces it unless it was edited: {digest} -->\n"


def model_card(
    manifest: Manifest, repository_id: str, licence: ModelCardData | None, *, has_example: bool = False
) -> str:
    """The text of README.md.

    Args:
        has_example: whether the picture that the export drew lies beside the card.
        manifest: of the export.
        repository_id: where it is pushed to.
        licence: of the source, by `licence_of`; None where it is not known, which the card then says.
    """
    metadata = ModelCardData(
        **(licence.to_dict() if licence else {}),
        base_model=manifest.model if manifest.revision else None,
        pipeline_tag="text-to-image",
        tags=["neuron", manifest.kind.label.lower(), "text-to-image"],
    )
    # Of a distilled checkpoint: optimum-neuron's class has no defaults of an export.
    arguments = manifest.call.arguments() if manifest.call else {}
    text = _CARD.format(
        metadata=metadata.to_yaml(),
        name=repository_id.split("/")[-1],
        label=manifest.kind.label,
        paper=manifest.kind.paper,
        pipeline=manifest.kind.neuron_class,
        repository=repository_id,
        prompt=EXAMPLE_PROMPT,
        arguments="".join(f", {name}={value}" for name, value in arguments.items()),
        example=_EXAMPLE.format(prompt=EXAMPLE_PROMPT, file=EXAMPLE_FILE) if has_example else "",
        risk=ARCHIVE_RISK,
        emulated=_EMULATED if manifest.emulated else "",
        instance=manifest.instance,
        source=_source(manifest.model, manifest.revision),
        target=_table(("", ""), _target(manifest)),
        components=_table(("Component", "Ranks", "Inputs", "Outputs"), _components(manifest)),
        validation=_validation(manifest),
        sources=_sources(manifest),
        licence=_licence(manifest, licence),
        versions=_table(("Package", "Version"), manifest.versions.items()),
    )
    return text + _MARK.format(digest=_digest(text))


def licence_of(card: ModelCardData) -> ModelCardData | None:
    """The licence that a model's own card names, and nothing else of the card; None where it names none.

    A stranger wrote it, and a user's card repeats it: what is no plain name or no https link is left out.
    """
    said = {name: str(value) for name in _LICENCE if (value := getattr(card, name, None)) is not None}
    kept: dict[str, Any] = {name: text for name, text in said.items() if _LICENCE[name].fullmatch(text)}
    return ModelCardData(**kept) if "license" in kept else None


def is_generated(card: str) -> bool:
    """Whether `model_card` wrote this text and nobody changed it since."""
    text, mark, _ = card.rpartition(_MARK.split("{", 1)[0])
    return bool(mark) and card == text + _MARK.format(digest=_digest(text))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _target(manifest: Manifest) -> list[tuple[str, object]]:
    attention = [(name, record.attention) for name, record in manifest.components.items() if record.attention]
    left_out = {"attention"} if attention else set()  # what was asked for, where the answer is known
    if manifest.options.get("auto_cast") is None:
        left_out.add("auto_cast_type")
    names = sorted(manifest.options.keys() - _SOURCE_OPTIONS - PARTS.keys() - left_out)
    options = [
        (f"`{name}`", value) for name in names if (value := manifest.options[name]) not in (None, False, "", (), [])
    ]
    return [
        ("Instance", manifest.instance),
        ("Compiler target", f"{manifest.target}, {manifest.lnc} physical core(s) behind a logical one"),
        ("Logical cores", manifest.ranks),
        ("Parallel mode", manifest.parallel_mode or "none, one core"),
        *((f"Attention of `{name}`", computed) for name, computed in attention),
        *_shapes(manifest),
        *options,
    ]


def _shapes(manifest: Manifest) -> Iterable[tuple[str, object]]:
    """Size of the images and length of the prompts, read off the programs' borders."""
    encoder, denoiser, decoder = (
        manifest.components.get(component.name) for component in (PROMPT_ENCODER, DENOISER, IMAGE_DECODER)
    )
    if denoiser and decoder:
        borders = (denoiser.inputs[0], decoder.inputs[0], decoder.outputs[0])
        latent, tile, image = (border.shape[-2:] for border in borders)
        height, width = (size * pixels // latents for size, pixels, latents in zip(latent, image, tile))
        sizes = dict.fromkeys(each.name.removesuffix(ONE_HALF) for each in denoiser.programs)
        yield "Image", ", ".join(sizes or [f"{height}x{width}"]) + " px (height x width)"
        if any(each.name.endswith(ONE_HALF) for each in denoiser.programs):
            yield "Guidance", "with it and without, a program each"
    if encoder:
        prompts, tokens = encoder.inputs[0].shape
        yield "Prompts a run", prompts
        yield "Tokens a prompt", tokens


def _components(manifest: Manifest) -> Iterable[tuple[object, ...]]:
    for name, component in manifest.components.items():
        if not component.programs:
            yield f"`{name}`", component.ranks, _tensors(component.inputs), _tensors(component.outputs)
        for each in component.programs:
            yield f"`{name}` {each.name}", component.ranks, _tensors(each.inputs), _tensors(each.outputs)


def _tensors(tensors: Sequence[TensorRecord]) -> str:
    return "<br>".join(f"`{tensor.name}` {'x'.join(map(str, tensor.shape))} {tensor.dtype}" for tensor in tensors)


def _validation(manifest: Manifest) -> str:
    if not manifest.validation:
        return "The compiled components were not compared with the original ones."
    rows = (
        (
            f"`{row.label}`",
            f"{row.max_error:.3g}",
            f"{row.cosine:.6f}",
            f"{row.psnr:.1f} dB",
            row.limit,
            "passed" if row.passed else "**failed**",
        )
        for row in manifest.validation
    )
    header = ("Component", "Largest error", "Cosine", "PSNR", "Limit of the error", "Verdict")
    return "Each component against its original in float32, on the CPU.\n\n" + _table(header, rows)


def _sources(manifest: Manifest) -> str:
    sources = {name: component.source for name, component in manifest.components.items()} | manifest.copied
    table = _table(("Part", "From"), ((f"`{name}`", _source(at.model, at.revision)) for name, at in sources.items()))
    if not manifest.adapters:
        return table
    rows = (
        (f"`{each.name}`", f"{_source(each.model, each.revision, 'adapter')}, `{each.file}`", each.scale)
        for each in manifest.adapters
    )
    return f"{table}\n\nMerged into the weights:\n\n{_table(('LoRA', 'From', 'Scale'), rows)}"


def _source(model: str, revision: str | None, kind: str = "checkpoint") -> str:
    """A link for a model of the Hub; a local folder's own name, without the way to it."""
    if revision is None:
        return f"the local {kind} `{own_name(model)}`"
    return f"[{model}](https://huggingface.co/{model}/tree/{revision}) at `{revision[:12]}`"


def _licence(manifest: Manifest, licence: ModelCardData | None) -> str:
    if licence is None:
        return "The licence of the source is not known here; compiling it does not change it."
    shown = licence.license_name or licence.license
    shown = f"[{shown}]({licence.license_link})" if licence.license_link else f"`{shown}`"
    return f"Licence: {shown}, that of {manifest.model}."


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
