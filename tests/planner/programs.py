"""One rank's program of each component as the export builds it: traced, not executed, on meta weights."""

from functools import cache

import torch
from torch.utils.flop_counter import flop_registry
from transformers import T5Config

from optimum_pixart_neuron.components.text_encoder.graph import PixArtTextEncoder
from optimum_pixart_neuron.components.text_encoder.sharding import PLAN as TEXT_ENCODER_PLAN
from optimum_pixart_neuron.components.transformer.graph import PixArtTransformer
from optimum_pixart_neuron.components.transformer.sharding import PLAN as TRANSFORMER_PLAN
from optimum_pixart_neuron.components.vae.graph import PixArtVaeDecoder
from optimum_pixart_neuron.neuron.compiler import CompilerSettings, environment_variables
from optimum_pixart_neuron.parallel.apply import materialize
from optimum_pixart_neuron.parallel.shard_writer import ShardedWeight
from optimum_pixart_neuron.parallel.split import ContextSplit, Split, TensorSplit
from optimum_pixart_neuron.planner import Geometry, PlanRow, Request, predict
from optimum_pixart_neuron.program.program import TracedProgram, trace_program

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
UPSTREAM_ONLY = {"use_additional_conditions": False}
"""What diffusers would otherwise derive from the sample size, and PixArt-Sigma's checkpoints say."""
VAE_BLOCKS = {"up_block_types": "UpDecoderBlock2D", "down_block_types": "DownEncoderBlock2D"}


# Of another shape in every size that enters a formula, and without what XL/2 has.
ODD = Geometry(
    "odd",
    {
        "text_encoder": {
            "num_layers": 2,
            "d_model": 48,
            "num_heads": 8,
            "d_kv": 10,
            "d_ff": 96,
            "vocab_size": 100,
            "feed_forward_proj": "gated-gelu",
        },
        "transformer": {
            "num_layers": 3,
            "num_attention_heads": 4,
            "attention_head_dim": 12,
            "cross_attention_dim": 48,
            "in_channels": 3,
            "out_channels": 5,
            "patch_size": 4,
            "caption_channels": 40,
            "sample_size": 32,
            "attention_bias": False,
        },
        "vae": {
            "block_out_channels": [32, 64, 96],
            "layers_per_block": 1,
            "latent_channels": 3,
            "in_channels": 3,
            "out_channels": 3,
            "use_post_quant_conv": False,
            "mid_block_add_attention": False,
        },
    },
)

# (mode, ranks, options of the request, rows that the transformer's program takes of a batch of two)
MODES = (
    (None, 1, (), 2),
    ("data", 8, (), 4),
    ("tensor", 4, (), 4),
    ("context", 2, (), 4),
    ("context", 8, (("exchange", "gather"),), 4),
    ("context", 8, (("exchange", "all-to-all"),), 4),
    ("context", 2, (("no_guidance", True),), 2),
)


def vae_config(geometry: Geometry) -> dict:
    config = geometry.config("vae")
    levels = len(config["block_out_channels"])
    return {**{key: [value] * levels for key, value in VAE_BLOCKS.items()}, **config}


def modules(geometry: Geometry, *, side: int, tokens: int, dtype: torch.dtype, kernel=None) -> dict:
    """Makes each component's unsplit module for images of (side, side) pixels, by its name."""
    cells = side // geometry.vae.scale
    return {
        "text_encoder": lambda: PixArtTextEncoder(T5Config(**geometry.config("text_encoder")), tokens, dtype),
        "transformer": lambda: PixArtTransformer.build(
            {**geometry.config("transformer"), **UPSTREAM_ONLY},
            latent_height=cells,
            latent_width=cells,
            dtype=dtype,
            kernel=kernel,
        ),
        "vae_decoder": lambda: PixArtVaeDecoder(vae_config(geometry), dtype),
    }


def inputs(geometry: Geometry, component: str, *, side: int, tokens: int, rows: int) -> tuple[torch.Tensor, ...]:
    cells, size = side // geometry.vae.scale, geometry.transformer
    if component == "text_encoder":
        return (torch.ones(rows, tokens, dtype=torch.int64),)
    if component == "vae_decoder":
        return (torch.ones(rows, geometry.vae.latent_channels, cells, cells),)
    latents = torch.ones(rows, size.in_channels, cells, cells)
    mask = torch.ones(rows, tokens, dtype=torch.int64)
    return (latents, torch.ones(rows, tokens, size.caption_channels), torch.ones(rows), mask)


def split_of(row: PlanRow, component: str) -> Split | None:
    """As the export splits it."""
    deployment = row.deployment
    if deployment.ranks == 1 or component == "vae_decoder":
        return None
    if component == "text_encoder":
        return TensorSplit(plan=TEXT_ENCODER_PLAN, ranks=deployment.ranks)
    if deployment.mode == "tensor":
        return TensorSplit(plan=TRANSFORMER_PLAN, ranks=deployment.ranks)
    if deployment.mode == "context":
        return ContextSplit(
            ranks=deployment.ranks, guidance_groups=deployment.guidance_groups, exchange=deployment.exchange
        )
    return None


def trace(geometry: Geometry, row: PlanRow, component: str, *, side: int, tokens: int, rows: int, kernel=None):
    """The program of rank 0 for `rows` rows, bfloat16."""
    split = split_of(row, component)
    build = modules(geometry, side=side, tokens=tokens, dtype=torch.bfloat16, kernel=kernel)[component]

    def build_split():
        with torch.device("meta"):
            model = build()
            if split:
                split.apply(model, torch.bfloat16)
        materialize(model)
        return model

    ranks = split.ranks if split else 1
    example = inputs(geometry, component, side=side, tokens=tokens, rows=rows)
    with environment_variables(CompilerSettings(target="trn1", lnc=1).environment(ranks)):
        return trace_program(build_split, example, ranks)


@cache
def small_programs(mode: tuple) -> tuple[PlanRow, dict[str, TracedProgram]]:
    """A row of the plan of `ODD` in one of `MODES`, and its programs."""
    name, ranks, options, rows = mode
    geometry, size = with_layers(ODD, 2), {"side": 256, "tokens": 24}
    request = Request(height=256, width=256, sequence_length=24, batch_size=2, **dict(options))
    row = predict(geometry, request, "trn1", mode=name, ranks=ranks)
    batches = {"text_encoder": 2, "transformer": rows, "vae_decoder": 1}
    return row, {name: trace(geometry, row, name, rows=batch, **size) for name, batch in batches.items()}


def with_layers(geometry: Geometry, layers: int) -> Geometry:
    """The geometry with another number of blocks in the text encoder and the transformer."""
    configs = {name: dict(config) for name, config in geometry.configs.items()}
    configs["text_encoder"]["num_layers"] = configs["transformer"]["num_layers"] = layers
    return Geometry(geometry.name, configs)


def flops(program: TracedProgram) -> int:
    """What torch's `FlopCounterMode` would count, from the shapes of the program's operations."""
    total = 0
    for node in program.graph.graph_module.graph.nodes:
        formula = flop_registry.get(getattr(node.target, "overloadpacket", None))
        if formula:
            values = torch.utils._pytree.tree_map_only(torch.fx.Node, lambda used: used.meta["val"], node.args)
            total += formula(*values, **node.kwargs, out_val=node.meta["val"])
    return total


def weight_bytes(geometry: Geometry, row: PlanRow, component: str, *, side: int, tokens: int, dtype: str) -> int:
    """Bytes of one rank's weights, by the export's own sharding."""
    with torch.device("meta"):
        model = modules(geometry, side=side, tokens=tokens, dtype=DTYPES[dtype])[component]()
    parameters = dict(model.named_parameters())
    split = split_of(row, component)
    dims = split.divided_dims(list(parameters)) if split else dict.fromkeys(parameters)
    return sum(
        ShardedWeight(shape=tuple(parameter.shape), dtype=parameter.dtype, dim=dims[name]).rank_bytes(
            row.deployment.ranks
        )
        for name, parameter in parameters.items()
    )
