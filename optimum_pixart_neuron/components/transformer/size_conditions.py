"""Size and aspect ratio of the image, on which PixArt-Alpha's transformer for 1024 px is conditioned, at one size."""

import torch
from diffusers.models.embeddings import PixArtAlphaCombinedTimestepSizeEmbeddings
from torch import Tensor


class _SizedEmbeddings(PixArtAlphaCombinedTimestepSizeEmbeddings):
    """diffusers' embeddings of timestep, size and aspect ratio, for images of one size; see `fix_conditions`.

    The stock loader passes neither size nor aspect ratio, and a program has one size: so the sinusoids of both are
    constants of the program, as its positions are, and no sine of a number of thousands is left to the device.
    """

    def forward(
        self, timestep: Tensor, resolution: None, aspect_ratio: None, batch_size: int, hidden_dtype: torch.dtype
    ) -> Tensor:
        """(B, width) in `hidden_dtype`, of timesteps (B,)."""
        time = self.timestep_embedder(self.time_proj(timestep).to(hidden_dtype))
        size = self.resolution_embedder(self.size_sinusoids.to(hidden_dtype)).reshape(1, -1)
        aspect = self.aspect_ratio_embedder(self.aspect_sinusoids.to(hidden_dtype))
        return time + torch.cat([size, aspect], dim=1)


def fix_conditions(embeddings: PixArtAlphaCombinedTimestepSizeEmbeddings, height: int, width: int) -> None:
    """Give embeddings the conditions of one size, in place, as diffusers 0.35 `PixArtAlphaPipeline` computes them.

    Args:
        height, width: of the image, in pixels.
    """
    size, aspect = condition_values(height, width)
    with torch.device("cpu"):
        project = embeddings.additional_condition_proj
        embeddings.register_buffer("size_sinusoids", project(size), persistent=False)
        embeddings.register_buffer("aspect_sinusoids", project(aspect), persistent=False)
    embeddings.__class__ = _SizedEmbeddings


def condition_values(height: int, width: int) -> tuple[Tensor, Tensor]:
    """(2,) height and width in pixels, and (1,) their ratio; float32 on the CPU."""
    size = torch.tensor([height, width], dtype=torch.float32, device="cpu")
    return size, torch.tensor([height / width], dtype=torch.float32, device="cpu")
