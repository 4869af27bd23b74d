"""The problem every variant solves: one transformer call on the guidance pair of one image, at XL/2 width.

Written to a folder once, so that each variant reads the same weights and inputs in a process of its own.
"""

from pathlib import Path

TRANSFORMER, INPUTS = "transformer", "inputs.safetensors"
CAPTION_TOKENS, CAPTION_WIDTH = 300, 4096
PIXELS_PER_CELL = 8
CONTROL = "control"  # a variant that is given what the emulator gives its ranks


def write_problem(folder: Path, *, size: int, blocks: int) -> None:
    """Seeded random weights and inputs, float32.

    Args:
        size: of the square image, pixels.
        blocks: of the transformer; the released one has 28.
    """
    import torch
    from diffusers import PixArtTransformer2DModel
    from safetensors.torch import save_file

    torch.manual_seed(0)
    cells = size // PIXELS_PER_CELL
    transformer = PixArtTransformer2DModel(
        num_layers=blocks,
        caption_channels=CAPTION_WIDTH,
        sample_size=cells,
        interpolation_scale=max(cells // 64, 1),
        use_additional_conditions=False,
    )
    with torch.no_grad():
        for module in transformer.modules():
            if isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
                # Unit gain: with the default initialisation every softmax is flat and hides a wrong scale or mask.
                module.weight.normal_(std=module.weight[0].numel() ** -0.5)
    transformer.save_pretrained(folder / TRANSFORMER)
    inputs = {
        "hidden_states": torch.randn(2, 4, cells, cells),
        "encoder_hidden_states": torch.randn(2, CAPTION_TOKENS, CAPTION_WIDTH),
        "timestep": torch.tensor([999.0, 999.0]),
        # Padding of two lengths, as of a short negative prompt and a longer prompt.
        "encoder_attention_mask": (torch.arange(CAPTION_TOKENS) < torch.tensor([[12], [40]])).long(),
    }
    save_file(inputs, folder / INPUTS)


def eager_step(model, inputs, dtype):
    """What calls diffusers' own module once; the prediction (2, 8, cells, cells) in `dtype`."""
    floats = {name: tensor.to(dtype) if tensor.ndim > 2 else tensor for name, tensor in inputs.items()}
    conditions = {"resolution": None, "aspect_ratio": None}
    return lambda: model(**floats, added_cond_kwargs=conditions, return_dict=False)[0]


def use_onednn() -> None:
    """Compute float32 linear layers as the emulator's ranks do, see `optimum_pixart_neuron/emulator/matmul.py`."""
    import torch

    plain = torch.nn.functional.linear

    def linear(x, weight, bias=None):
        if x.dtype != torch.float32:
            return plain(x, weight, bias)
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")

    torch.nn.functional.linear = linear
