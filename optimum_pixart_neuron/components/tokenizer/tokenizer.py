"""The tokenizer: T5's, slow or fast, made from its known files.

transformers 4.57, which optimum-neuron 0.4 needs, has a class of sentencepiece (`T5Tokenizer`, from spiece.model) and
one of the library tokenizers (`T5TokenizerFast`, from tokenizer.json). transformers 5 calls the latter T5Tokenizer and
saves tokenizer.json alone. Such a checkpoint gets the name and the settings by which 4.57 loads the same file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

from pydantic import BaseModel

from ...errors import PixArtNeuronError, printable
from ...files import CONFIGURATION_BYTES
from ..common.copied import CopiedPart, parsed
from .settings import AddedTokens, SpecialTokens, TokenizerFile, TokenizerSettings

CONFIGURATION = "tokenizer_config.json"
SENTENCES = "spiece.model"
FAST = "tokenizer.json"

SLOW_CLASS, FAST_CLASS = "T5Tokenizer", "T5TokenizerFast"
_LIBRARY = "transformers"
# Under these names transformers 4.57 and 5 save any tokenizer of the library tokenizers.
_FAST_CLASSES = (FAST_CLASS, "PreTrainedTokenizerFast", "TokenizersBackend")
_TRIAL = ("", "a photo of an astronaut riding a horse on mars, 35mm (f/1.8)")


class Tokenizer(CopiedPart):
    """A tokenizer of a checkpoint or an export."""

    FILES: ClassVar[Mapping[str, int]] = {
        CONFIGURATION: CONFIGURATION_BYTES,
        "special_tokens_map.json": CONFIGURATION_BYTES,
        "added_tokens.json": CONFIGURATION_BYTES,
        SENTENCES: 16 << 20,  # T5's takes 0.8 MB, that of the multilingual T5 4.3 MB
        FAST: 32 << 20,  # 2.4 MB and 16 MB
    }
    NEEDED: ClassVar[tuple[str, ...]] = (CONFIGURATION, SENTENCES)
    INSTEAD: ClassVar[Mapping[str, str]] = {SENTENCES: FAST}

    @classmethod
    def read(cls, folder: Path, entry: tuple[str, str] | None, raises: type[PixArtNeuronError]) -> Tokenizer:
        files = cls.read_files(folder, raises)
        values = {
            name: parsed(folder / name, files[name], kind.model_validate, raises)
            for name, kind in _KINDS.items()
            if name in files
        }
        settings = values[CONFIGURATION]
        library, class_name = entry or (_LIBRARY, settings.get("tokenizer_class") or SLOW_CLASS)
        if library != _LIBRARY or class_name not in (SLOW_CLASS, *_FAST_CLASSES):
            named = f"{printable(library)}.{printable(class_name)}"
            raise raises(f"{folder}: {named} is no tokenizer of T5; no other code is loaded")
        notes = []
        if "auto_map" in settings:
            notes.append("the tokenizer's auto_map names code of its own, which is not run; T5's class loads it")
        chosen = SLOW_CLASS if class_name == SLOW_CLASS and SENTENCES in files else FAST_CLASS
        known = _known_settings(settings, chosen, SENTENCES in files)
        contents = dict(files)
        if known != settings:
            contents[CONFIGURATION] = f"{json.dumps(known, indent=2, ensure_ascii=False)}\n".encode()
        return cls(
            folder=folder,
            source=files,
            contents=contents,
            library=_LIBRARY,
            class_name=chosen,
            notes=tuple(notes),
            raises=raises,
        )

    def load(self) -> Any:
        """Make the tokenizer, and see it fill rows of token ids as a call of the pipeline asks it to.

        It is loaded from a folder that holds nothing else: transformers also looks for a config.json and for code.
        """
        import transformers

        with self._loading(), TemporaryDirectory(prefix="pixart-neuron-") as scratch:
            if SENTENCES in self.contents:  # transformers 4.57 hides why sentencepiece refuses it behind another error
                from sentencepiece import SentencePieceProcessor

                SentencePieceProcessor(model_proto=self.contents[SENTENCES])
            self.write(Path(scratch))
            loaded = getattr(transformers, self.class_name).from_pretrained(scratch, local_files_only=True)
            loaded(list(_TRIAL), padding="max_length", max_length=16, truncation=True)
        loaded.name_or_path = loaded.init_kwargs["name_or_path"] = str(self.folder)
        if SENTENCES in self.contents:
            loaded.vocab_file = str(self.folder / SENTENCES)  # copies and `save_pretrained` read it again
        return loaded


def last_token(tokenizer: Any) -> int:
    """The highest id that a loaded tokenizer gives."""
    return max(tokenizer.get_vocab().values())


_KINDS: dict[str, type[BaseModel]] = {
    CONFIGURATION: TokenizerSettings,
    "special_tokens_map.json": SpecialTokens,
    "added_tokens.json": AddedTokens,
    FAST: TokenizerFile,
}


def _known_settings(settings: dict[str, Any], class_name: str, has_sentences: bool) -> dict[str, Any]:
    known = {name: value for name, value in settings.items() if name in TokenizerSettings.model_fields}
    known["tokenizer_class"] = class_name
    if not isinstance(known.get("extra_special_tokens", {}), dict):
        del known["extra_special_tokens"]  # a list since transformers 5; they are among the file's added tokens
    if class_name == FAST_CLASS and not has_sentences:
        known.pop("add_prefix_space", None)  # asks transformers 4.57 to build the tokenizer from sentencepiece's file
    return known
