"""Conversations as training rows: which tokens are learned, with which weight, on the chat template of SmolLM2."""

from __future__ import annotations

import pytest

from ragkit import Example, Template, finetune
from ragkit.errors import InvalidInputError
from ragkit.finetuning._encoding import IGNORED, encode_rows
from ragkit.finetuning._rows import training_rows
from ragkit.records import Chat, Message

CHAT = Chat((
    Message("system", "be brief"),
    Message("user", "one?"),
    Message("assistant", "uno", weight=0.0),
    Message("user", "two?"),
    Message("assistant", "dos"),
    Message("tool", "3"),
    Message("assistant", "tres", weight=0.5),
))  # fmt: skip


def rows_of(model, *rows, template=None):
    template = (template or Template()).for_model(model)
    return encode_rows(model, [(row, template) for row in rows], 8192)[0]


def learned(model, row):
    return model.tokenizer.decode([label for label in row["labels"] if label != IGNORED])


@pytest.mark.slow
def test_a_conversation_gives_a_row_for_each_turn_that_is_learned(smollm2):
    rows = rows_of(smollm2, CHAT)
    assert [learned(smollm2, row) for row in rows] == ["dos<|im_end|>", "tres<|im_end|>"]
    turns = [{"role": turn.role, "content": turn.content} for turn in CHAT.messages]
    for row, end in zip(rows, (5, 7), strict=True):
        own = smollm2.tokenizer.apply_chat_template(turns[:end], tokenize=False)
        assert smollm2.tokenizer.decode(row["input_ids"]) == own.removesuffix("\n")
    weights = [{w for w, label in zip(row["weights"], row["labels"], strict=True) if label != IGNORED} for row in rows]
    assert weights == [{1.0}, {0.5}]


@pytest.mark.slow
def test_an_example_is_learned_in_the_form_in_which_it_is_asked(smollm2):
    template = Template(instruction="Translate.")
    chat = rows_of(smollm2, Example("one", "uno"), template=template)[0]
    text = rows_of(smollm2, Example("one", "uno"), template=Template(instruction="Translate.", form="text"))[0]
    assert learned(smollm2, chat) == "uno<|im_end|>"
    assert learned(smollm2, text) == " uno\n\n<|im_end|>"
    prompt = template.for_model(smollm2).prompt([], "one")
    assert chat["input_ids"][: -len(smollm2.encode_text("uno")) - 1] == smollm2.encode_prompt(prompt)


@pytest.mark.parametrize(
    ("turns", "term"),
    [
        ([{"role": "user", "content": "a"}, {"role": "assistant", "content": " "}], "turn 1"),
        ([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": -1}], "weight"),
        ([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0}], "weight"),
        ([{"role": "judge", "content": "a"}, {"role": "assistant", "content": "b"}], "turn 0"),
        ([{"role": "user", "content": "a"}, {"role": "assistant", "content": "", "tool_calls": [{}]}], "tool_calls"),
        ([{"role": "user", "content": "a"}, {"role": "assistant", "content": None}], "turn 1"),
    ],
)
def test_turns_that_cannot_be_learned_are_named(turns, term):
    with pytest.raises(InvalidInputError, match=rf"train\[1\].*{term}"):
        training_rows([Example("x", "y"), {"messages": turns}], "completion")


def test_rank_stabilised_lora_trains_and_loads(tmp_path):
    rows = [Example(f"say {word} {n}", word) for n in range(8) for word in ("ping", "pong")]
    tuned = finetune("tiny", rows, method="rslora", epochs=1, output_dir=tmp_path / "run")
    config = next(iter(tuned.model.module.peft_config.values()))
    assert (config.use_rslora, config.r) == (True, 64)
    assert config.lora_alpha / config.r**0.5 == 2  # the same scale as of "lora": 32 / 16
