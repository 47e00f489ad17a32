"""The tokenizer of `tiny`: any string goes in and comes back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.models._local import LocalModel
from ragkit.tiny._tokenizer import MARKS, PUNCTUATION, SPECIAL, build_tokenizer, lines_of_words

TEXT = st.one_of(
    st.text(),
    st.lists(
        st.sampled_from([*SPECIAL, *MARKS, *PUNCTUATION, " ", "  ", "\n", "\r\n", "lamp", " lamp", "é", "🙂", "Ġ"])
    ).map("".join),
)


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(2048)


def encode(tokenizer: Any, text: str):
    return tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]


@given(TEXT)
def test_every_string_comes_back(tokenizer: Any, text: str):
    ids = encode(tokenizer, text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert not set(ids) & set(tokenizer.all_special_ids)


def test_every_character_comes_back(tokenizer: Any):
    for start in range(0, 0x110000, 0x100):
        text = "".join(chr(code) for code in range(start, start + 0x100) if not 0xD800 <= code < 0xE000)
        assert tokenizer.decode(encode(tokenizer, text)) == text


def test_words_and_marks_are_single_tokens(tokenizer: Any):
    for word in (word for line in lines_of_words() for word in line):
        assert len(encode(tokenizer, f" {word}")) == 1, word
    for mark in (*MARKS, *PUNCTUATION, *(f" {mark}" for mark in PUNCTUATION)):
        assert len(encode(tokenizer, mark)) == 1, mark
    text = "Input: dim the lamp\nOutput: fade lamp, in zone: kitchen\n\n"
    pieces = [tokenizer.decode([token]) for token in encode(tokenizer, text)]
    assert "|".join(pieces) == "Input:| dim| the| lamp|\n|Output:| fade| lamp|,| in| zone|:| kitchen|\n\n"


def test_runs_of_marks_digits_and_spaces_are_cut_into_their_parts(tokenizer: Any):
    text = "(lamp), [fan]!! 42  x"
    pieces = [tokenizer.decode([token]) for token in encode(tokenizer, text)]
    assert "|".join(pieces) == "(|l|a|m|p|)|,| [|f|a|n|]|!|!| |4|2| | |x"


def test_a_text_begins_with_bos(tokenizer: Any):
    assert tokenizer("lamp")["input_ids"] == [tokenizer.bos_token_id, *encode(tokenizer, "lamp")]
    assert [tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id] == [0, 1, 2]
    assert tokenizer.padding_side == "left"
    assert tokenizer.model_max_length == 2048


def test_words_are_distinct():
    words = [word for line in lines_of_words() for word in line]
    assert len(words) == len(set(words)) > 300
    assert all(word == word.strip() and word for word in words)


def test_the_shipped_tokenizer_is_the_built_one(tiny: LocalModel, tokenizer: Any):
    assert tiny.tokenizer.get_vocab() == tokenizer.get_vocab()
    text = "Input: dim the xyzzy 東京 <eos>\n\nOutput:"
    assert tiny.encode_text(text) == encode(tokenizer, text)
