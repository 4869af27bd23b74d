"""What the JSON files of a tokenizer may say, with types and limits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel, model_validator

_Text = Annotated[str, Field(max_length=1000)]
_Id = Annotated[int, Field(ge=0, lt=1 << 31)]
_ExtraIds = Annotated[int, Field(ge=0, le=1000)]
"""Each is made into a token; T5 has 100, the multilingual T5 300."""

# The steps of T5's tokenizer.json, as transformers 4.57 and 5 write it.
_STEPS = {
    "normalizer": {"Sequence", "Precompiled", "Replace", "Strip", "Nmt", "NFC", "NFD", "NFKC", "NFKD", "Lowercase"},
    "pre_tokenizer": {"Sequence", "Metaspace", "WhitespaceSplit"},
    "post_processor": {"Sequence", "TemplateProcessing"},
    "decoder": {"Sequence", "Metaspace", "Replace", "Strip", "Fuse"},
}
_REGULAR_EXPRESSION = " {2,}"
"""The only one of T5's normalizer; others can take for ever."""
_MOST_PIECES = 1 << 21


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")


class _Token(_Settings):
    """A token with the rules by which it is found in a text."""

    model_config = ConfigDict(extra="allow")

    content: _Text
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = True
    single_word: bool = False
    special: bool = True


_Tokens = Annotated[list[_Text | _Token], Field(max_length=5000)]


class SpecialTokens(_Settings):
    """special_tokens_map.json."""

    eos_token: _Text | _Token | None = None
    unk_token: _Text | _Token | None = None
    pad_token: _Text | _Token | None = None
    bos_token: _Text | _Token | None = None
    additional_special_tokens: _Tokens | None = None


class AddedTokens(RootModel[dict[_Text, _Id]]):
    """added_tokens.json."""

    model_config = ConfigDict(strict=True)


class _Sampling(_Settings):
    """Arguments of sentencepiece; the others name files."""

    model_config = ConfigDict(extra="forbid")

    enable_sampling: bool = False
    nbest_size: int = 0
    alpha: float = 0.0


class TokenizerSettings(SpecialTokens):
    """tokenizer_config.json: the settings of T5's classes (transformers 4.57) that change what they do."""

    tokenizer_class: _Text | None = None
    extra_ids: _ExtraIds = 100
    sp_model_kwargs: _Sampling | None = None
    legacy: bool | None = None
    add_prefix_space: bool | None = None
    added_tokens_decoder: dict[Annotated[str, Field(pattern=r"^\d{1,9}$")], _Token] = {}
    extra_special_tokens: dict[_Text, _Text] | _Tokens = {}
    clean_up_tokenization_spaces: bool | None = None
    split_special_tokens: bool = False
    model_max_length: Annotated[int, Field(ge=1)] | Annotated[float, Field(ge=1)] | None = None
    padding_side: Literal["left", "right"] = "right"
    truncation_side: Literal["left", "right"] = "right"


class _Unigram(_Settings):
    type: Literal["Unigram"]
    vocab: list[Any] = Field(max_length=_MOST_PIECES)


class TokenizerFile(_Settings):
    """tokenizer.json: the pieces of sentencepiece, and steps that are known to end."""

    model: _Unigram
    normalizer: dict[str, Any] | None = None
    pre_tokenizer: dict[str, Any] | None = None
    post_processor: dict[str, Any] | None = None
    decoder: dict[str, Any] | None = None
    added_tokens: list[_Token] = Field(default=[], max_length=5000)

    @model_validator(mode="after")
    def _of_known_steps(self) -> TokenizerFile:
        for name, known in _STEPS.items():
            for key, value in _values(getattr(self, name)):
                if key == "type" and not (isinstance(value, str) and value in known):
                    raise ValueError(f"{name} has the step {str(value)[:80]}, which T5's tokenizer does not have")
                if key == "Regex" and value != _REGULAR_EXPRESSION:
                    raise ValueError(f"{name} has the regular expression {str(value)[:80]}, which T5's does not have")
        return self


def _values(part: Any) -> Iterator[tuple[str, Any]]:
    """Every key of nested objects with its value."""
    if isinstance(part, dict):
        for key, value in part.items():
            yield key, value
            yield from _values(value)
    elif isinstance(part, list):
        for value in part:
            yield from _values(value)
