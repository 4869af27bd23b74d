"""The text encoder's graph: T5 from token ids alone."""

import torch
from torch import Tensor, nn
from transformers import T5Config, T5EncoderModel


class _PositionBias(nn.Module):
    """The finished relative position bias, `value` (heads, S, S), as a weight of its own."""

    def __init__(self, heads: int, sequence_length: int, dtype: torch.dtype) -> None:
        super().__init__()
        shape = (heads, sequence_length, sequence_length)
        self.value = nn.Parameter(torch.empty(shape, dtype=dtype), requires_grad=False)

    def forward(self) -> Tensor:
        return self.value


class PixArtTextEncoder(T5EncoderModel):
    """transformers' T5 encoder that derives its own padding mask and takes its position bias as a weight.

    Upstream computes the relative position bias in the graph from integer buckets, one gather of S*S rows; here the
    finished bias is the parameter `position_bias.value` (heads, S, S), computed once from the checkpoint by
    `relative_position_bias`, so it is sharded by head like the attention that adds it.

    Args:
        sequence_length: S, the number of tokens the graph takes.
        dtype: dtype of weights and matmuls.
    """

    def __init__(self, config: T5Config, sequence_length: int, dtype: torch.dtype) -> None:
        super().__init__(config)
        self.to(dtype)
        self.position_bias = _PositionBias(config.num_heads, sequence_length, dtype)
        first_attention = self.encoder.block[0].layer[0].SelfAttention
        del first_attention.relative_attention_bias  # replaced by position_bias
        first_attention.compute_bias = self._compute_bias
        self.eval()

    def _compute_bias(self, *args, **kwargs) -> Tensor:
        return self.position_bias().unsqueeze(0)

    def forward(self, input_ids: Tensor) -> dict[str, Tensor]:
        """Encode token ids (B, S) int64 to `last_hidden_state` (B, S, d_model) float32.

        Padding is `config.pad_token_id`: optimum-neuron 0.4.5 drops the attention mask of T5 encoders
        (`NeuronModelTextEncoder.forward`), so the graph restores it. float32 at the border, because diffusers makes
        the latents in the dtype of the embeddings.
        """
        attention_mask = (input_ids != self.config.pad_token_id).to(self.dtype)
        output = super().forward(input_ids=input_ids, attention_mask=attention_mask, return_dict=True)
        return {"last_hidden_state": output.last_hidden_state.float()}


def relative_position_bias(bucket_weight: Tensor, config: T5Config, sequence_length: int) -> Tensor:
    """The position bias (heads, S, S) of an encoder with relative-bias table `bucket_weight` (buckets, heads).

    Uses upstream's own bucketing and the same gather, done once on the host. No module is built: NxD's
    `ModelBuilder.shard_checkpoint` loads checkpoints under meta initialisation, which would take the table's values.
    """
    from transformers.models.t5.modeling_t5 import T5Attention

    positions = torch.arange(sequence_length, device=bucket_weight.device)
    buckets = T5Attention._relative_position_bucket(
        positions[None, :] - positions[:, None],
        bidirectional=True,
        num_buckets=config.relative_attention_num_buckets,
        max_distance=config.relative_attention_max_distance,
    )
    return bucket_weight[buckets].permute(2, 0, 1).contiguous()
