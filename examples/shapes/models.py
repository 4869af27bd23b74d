"""The miniature's parts: tokenizer, text encoder, diffusion transformer and scheduler, wired like PixArt-Sigma.

Every number of heads, width and token count divides by 8, so that each way of splitting the work over 2, 4 or 8 cores
can be tried. 256 px pictures become 4 x 32 x 32 latents and, in patches of 4, 64 tokens.
"""

import io
import random
from pathlib import Path

import sentencepiece
import torch
from diffusers import DPMSolverMultistepScheduler, PixArtTransformer2DModel
from transformers import T5Config, T5EncoderModel, T5Tokenizer
from world import caption, loose_caption, random_scene

VOCABULARY = 192  # pieces; enough for every word of the world to be one of them
TEXT_WIDTH = 128
HEADS = 8
HEAD_WIDTH = 24


def train_tokenizer(folder: Path, seed: int, captions: int = 20000) -> T5Tokenizer:
    """Train a SentencePiece model on captions of the world and save it as a T5 tokenizer."""
    rng, model = random.Random(seed), io.BytesIO()
    scenes = [random_scene(rng) for _ in range(captions)]
    sentences = [loose_caption(s, rng) if rng.random() < 0.2 else caption(s, rng.random() < 0.5) for s in scenes]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=model,
        model_type="bpe",  # a unigram model of so few words leaves many of them in single letters
        vocab_size=VOCABULARY,
        normalization_rule_name="nmt_nfkc_cf",  # folds case
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "spiece.model").write_bytes(model.getvalue())
    tokenizer = T5Tokenizer(str(folder / "spiece.model"), extra_ids=0, legacy=True, model_max_length=300)
    tokenizer.save_pretrained(folder)
    return tokenizer


def build_text_encoder() -> T5EncoderModel:
    """A T5 v1.1 encoder (gated GELU, no biases)."""
    config = T5Config(
        vocab_size=VOCABULARY,
        d_model=TEXT_WIDTH,
        d_kv=16,
        num_heads=HEADS,
        d_ff=256,
        num_layers=3,
        dropout_rate=0.0,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        is_encoder_decoder=False,
        use_cache=False,
    )
    return T5EncoderModel(config)


def build_transformer() -> PixArtTransformer2DModel:
    transformer = PixArtTransformer2DModel(
        num_attention_heads=HEADS,
        attention_head_dim=HEAD_WIDTH,
        cross_attention_dim=HEADS * HEAD_WIDTH,
        num_layers=4,
        sample_size=32,
        patch_size=4,
        in_channels=4,
        out_channels=8,
        norm_type="ada_norm_single",
        caption_channels=TEXT_WIDTH,
        use_additional_conditions=False,
    )
    for module in transformer.modules():
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.xavier_uniform_(module.weight)
            torch.nn.init.zeros_(module.bias) if module.bias is not None else None
    # Starting from a prediction of zero steadies the first steps; the learned-variance half of the channels gets no
    # gradient from the loss, so it stays zero, and every pipeline throws it away.
    torch.nn.init.zeros_(transformer.proj_out.weight)
    torch.nn.init.zeros_(transformer.adaln_single.linear.weight)
    # Written-out attention: on CPU the fused kernel's bfloat16 backward is several times slower at 64 tokens.
    transformer.set_default_attn_processor()
    return transformer


def build_scheduler() -> DPMSolverMultistepScheduler:
    """The scheduler settings of the published PixArt-Sigma checkpoints."""
    return DPMSolverMultistepScheduler(
        num_train_timesteps=1000,
        beta_start=0.0001,
        beta_end=0.02,
        beta_schedule="linear",
        algorithm_type="dpmsolver++",
        solver_type="midpoint",
        solver_order=2,
        prediction_type="epsilon",
        timestep_spacing="linspace",
        lower_order_final=True,
        thresholding=False,
        use_karras_sigmas=False,
    )
