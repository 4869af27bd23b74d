"""Each component's module on one core against the unmodified upstream module, in float32 on the same weights.

Tolerance 1e-5 relative: the only differences are the order of float32 sums (attention written out, norms by another
kernel), about 1e-7 a layer; a wrong scale, mask or bias is above 1e-2.
"""

from pathlib import Path

import pytest
import torch
from diffusers import PixArtTransformer2DModel

from optimum_pixart_neuron.components.common.original import Samples
from optimum_pixart_neuron.components.text_encoder.graph import PixArtTextEncoder, relative_position_bias
from optimum_pixart_neuron.components.transformer.spec import TRANSFORMER
from optimum_pixart_neuron.components.vae.graph import PixArtVaeDecoder, PixArtVaeEncoder

from ..parity import relative_error
from .conftest import ours, transformer_inputs

CONDITIONS = {"resolution": None, "aspect_ratio": None}
BUCKETS = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"


# Latent cells of the 256 px checkpoint: its own square, two of its non-square bins (0.57 and 1.75), and none of them.
@pytest.mark.seconds
@pytest.mark.parametrize("size", [(32, 32), (24, 42), (42, 24), (64, 64)], ids=["square", "wide", "tall", "no bin"])
@torch.no_grad()
def test_transformer(transformer, size):
    sample, text, timestep, mask = transformer_inputs(*size)
    expected = transformer(
        sample, text, timestep=timestep.long(), encoder_attention_mask=mask, added_cond_kwargs=CONDITIONS
    ).sample
    assert relative_error(ours(transformer, size)(sample, text, timestep, mask)[0], expected) < 1e-5


@pytest.mark.parametrize("size", [(16, 16), (20, 12)], ids=["square", "tall"])
@torch.no_grad()
def test_a_transformer_with_conditions_has_those_of_its_size(size):
    """PixArt-Alpha for 1024 px: what diffusers passes of size and aspect ratio is part of the program."""
    original = PixArtTransformer2DModel(
        num_attention_heads=6, attention_head_dim=8, num_layers=1, cross_attention_dim=48, caption_channels=24,
        in_channels=4, out_channels=8, patch_size=2, sample_size=128,
    ).eval()  # fmt: skip
    built = ours(original, size)
    sample, text, timestep, mask = transformer_inputs(*size, channels=24)
    height, width = (8 * side for side in size)

    def expected(tall: int, wide: int) -> torch.Tensor:
        conditions = {
            "resolution": torch.tensor([[tall, wide]], dtype=torch.float32).repeat(2, 1),
            "aspect_ratio": torch.tensor([[tall / wide]]).repeat(2, 1),
        }
        return original(
            sample, text, timestep=timestep.long(), encoder_attention_mask=mask, added_cond_kwargs=conditions
        ).sample

    found = built(sample, text, timestep, mask)[0]
    assert relative_error(found, expected(height, width)) < 1e-5
    assert relative_error(found, expected(height + 64, width)) > 1e-3
    wanted = Samples(
        folder=Path(),
        batch=2,
        sizes={"num_channels": 4, "height": size[0], "width": size[1], "vae_scale_factor": 8},
        config=dict(original.config),
        inputs={"text_encoder": {"attention_mask": mask}},
        outputs={"text_encoder": text},
    )
    given = TRANSFORMER.original().samples(wanted)  # of the validation, whose original is told size and aspect ratio
    program = built(*(given[each.name] for each in TRANSFORMER.inputs))[0]
    assert relative_error(program, TRANSFORMER.original().call(original, **given)) < 1e-5


@pytest.mark.seconds
@torch.no_grad()
def test_bfloat16_transformer_keeps_the_timestep(transformer):
    """Contract 9.2: a timestep cast to bfloat16 makes 999 the same as 1000. Ours enters the graph in float32."""
    built = ours(transformer, dtype=torch.bfloat16)
    sample, text, _, mask = transformer_inputs(32, 32)
    outputs = [built(sample, text, torch.full((2,), float(step)), mask)[0] for step in (999, 1000)]
    assert outputs[0].dtype == torch.float32
    assert not torch.equal(outputs[0], outputs[1])


@torch.no_grad()
def test_text_encoder(t5):
    built = PixArtTextEncoder(t5.config, sequence_length=16, dtype=torch.float32)
    weights = t5.state_dict()
    weights["position_bias.value"] = relative_position_bias(weights.pop(BUCKETS), t5.config, 16)
    built.load_state_dict(weights, strict=True)
    ids = torch.randint(2, 100, (2, 16), generator=torch.Generator().manual_seed(4))
    ids[0, 7:] = 0
    ids[1, 1:] = 0
    expected = t5(ids, attention_mask=(ids != 0).long()).last_hidden_state
    unmasked = t5(ids).last_hidden_state
    result = built(ids)["last_hidden_state"]
    assert relative_error(result, expected) < 1e-5
    # Contract 9.1: the host drops the mask of T5; without one these embeddings differ by far more than rounding.
    assert relative_error(unmasked, expected) > 1e-2


@pytest.mark.seconds
@torch.no_grad()
def test_vae(vae):
    generator = torch.Generator().manual_seed(5)
    latents, images = torch.randn(2, 4, 8, 12, generator=generator), torch.randn(2, 3, 64, 96, generator=generator)
    decoder = PixArtVaeDecoder(dict(vae.config), torch.float32)
    encoder = PixArtVaeEncoder(dict(vae.config), torch.float32)
    for part in (decoder, encoder):
        part.load_state_dict({name: vae.state_dict()[name] for name in part.state_dict()}, strict=True)
    assert relative_error(decoder(latents)["sample"], vae.decode(latents).sample) < 1e-5
    assert relative_error(encoder(images)["latent_parameters"], vae.encode(images).latent_dist.parameters) < 1e-5


@pytest.mark.parametrize("sample_size", [32, 64, 128, 256])
@torch.no_grad()
def test_position_table_is_the_upstream_one(sample_size):
    """For the native square and two non-square bins of each checkpoint: bit for bit what `PatchEmbed` adds."""
    from optimum_pixart_neuron.deployment.sides import resolution_bins

    model = PixArtTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, num_layers=1, sample_size=sample_size, caption_channels=8,
        use_additional_conditions=False, cross_attention_dim=16,
    )  # fmt: skip
    patches = model.pos_embed
    patches.proj.weight.zero_()
    patches.proj.bias.zero_()
    bins = list(resolution_bins(sample_size).values())
    shapes = [(sample_size, sample_size), *((int(tall) // 8, int(wide) // 8) for tall, wide in (bins[3], bins[-3]))]
    for height, width in shapes:
        expected = patches(torch.zeros(1, 4, height, width))
        built = ours(model, (height, width))
        assert torch.equal(built.pos_embed.pos_embed, expected)
        assert max(table.nbytes for table in built.pos_embed.buffers()) < 300_000
