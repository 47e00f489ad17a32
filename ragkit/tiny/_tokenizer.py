"""The tokenizer of `tiny`: one token for a known word with its leading space, bytes for everything else.

Any string is encoded and decoded without loss. The fixed parts of a prompt (``Input:``, ``Output:``, the blank line
between examples) are single tokens, so an example has about as many tokens as words.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPECIAL = ("<pad>", "<bos>", "<eos>")
MARKS = ("Input:", "Output:", "Label:", "\n\n")
PUNCTUATION = tuple(".,:;!?()[]{}<>=+-*/'\"_#@&%$")
PATTERN = r"Input:|Output:|Label:|\n\n| ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]|\s"


def lines_of_words() -> list[list[str]]:
    """Read the vocabulary: the words of each line of ``words.txt`` without those of earlier lines."""
    text = Path(__file__).with_name("words.txt").read_text(encoding="utf-8")
    seen: set[str] = set()
    lines = []
    for line in text.splitlines():
        fresh = [word for word in line.split() if word not in seen]
        seen.update(fresh)
        lines.append(fresh)
    return lines


def build_tokenizer(window: int) -> PreTrainedTokenizerFast:
    """Build the tokenizer from the vocabulary; ``transformers`` can save and load it without custom code."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = [word for line in lines_of_words() for word in line]
    pieces = [*MARKS, *PUNCTUATION, *(f" {mark}" for mark in PUNCTUATION), *(f" {word}" for word in words)]
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    in_bytes = [byte_level.pre_tokenize_str(piece)[0][0] for piece in pieces]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = dict.fromkeys([*SPECIAL, *alphabet, *in_bytes])
    tokenizer = Tokenizer(
        models.BPE(vocab={piece: row for row, piece in enumerate(vocabulary)}, merges=[], ignore_merges=True)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(PATTERN), behavior="isolated"), byte_level]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", tokenizer.token_to_id("<bos>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        model_max_length=window,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
