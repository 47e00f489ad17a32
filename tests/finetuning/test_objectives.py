import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from ragkit import Document, Example, Task, Template, finetune, load_model
from ragkit.errors import DataFileError, EmptyPoolError, InvalidInputError, UnknownSpecError, UnsupportedError
from ragkit.finetuning import Mixture, mix
from ragkit.finetuning._encoding import encode_rows
from ragkit.finetuning._manifest import data_hash
from ragkit.finetuning._rows import read_rows, training_rows
from ragkit.finetuning._trainers import PreferenceTrainer
from ragkit.models._local import LocalModel
from ragkit.records import Chat, Message, Preference
from ragkit.tiny import WEIGHTS

PAIRS = [
    Preference(f"{word} the {thing}", f"{good} {thing}", f"{bad} {thing}")
    for word, good, bad in (("dim", "fade", "glow"), ("light", "glow", "fade"))
    for thing in ("lamp", "fan", "song", "door")
]
SENTENCE = "the heron waits beside the violet canal until seven bells have sounded"


def margin(model, pair):
    chosen, rejected = model.score([Template().prompt([], pair.prompt)], [f" {pair.chosen}", f" {pair.rejected}"])[0]
    return chosen - rejected


@pytest.mark.parametrize("method", ["lora", "full"])
def test_preferences_move_the_better_answer_up(tmp_path, tiny, method):
    tuned = finetune(
        "tiny", PAIRS, method=method, objective="preference", epochs=20, learning_rate=5e-4, output_dir=tmp_path
    )
    before, after = (np.array([margin(model, pair) for pair in PAIRS]) for model in (tiny, tuned.model))
    assert (after > before).all()
    assert (after > 0).all()
    assert tuned.manifest.objective == "preference"
    again = load_model(f"hf:{tmp_path}")
    assert again.fingerprint == tuned.model.fingerprint
    assert margin(again, PAIRS[0]) == after[0]


def test_the_first_loss_of_preferences_is_that_of_the_paper(tmp_path):
    """Policy and reference agree before the first step, so that the loss is log 2."""
    tuned = finetune(
        "tiny", PAIRS[:1], objective="preference", epochs=1, output_dir=tmp_path, trainer_config={"max_steps": 1}
    )
    assert tuned.manifest.loss == pytest.approx(np.log(2), abs=1e-5)


def test_a_step_of_preferences_is_computed_in_parts_with_the_same_result(tmp_path, monkeypatch):
    """16 pairs on SmolLM2 take more than 7 GB at once; parts of 4 give the gradient of the whole step."""
    sizes, real = [], PreferenceTrainer.compute_loss

    def compute_loss(self, model, inputs, *arguments, **named):
        sizes.append(len(inputs["input_ids"]))
        return real(self, model, inputs, *arguments, **named)

    monkeypatch.setattr(PreferenceTrainer, "compute_loss", compute_loss)
    settings = {"objective": "preference", "epochs": 4, "learning_rate": 5e-4}
    parts = finetune("tiny", PAIRS, output_dir=tmp_path / "parts", **settings)
    assert sizes == [8] * 8  # 4 pairs of two sequences, twice an epoch
    margins = {}
    for size in (4, 16):
        given = {"per_device_train_batch_size": size}
        run = finetune("tiny", PAIRS, output_dir=tmp_path / str(size), trainer_config=given, **settings)
        margins[size] = np.array([margin(run.model, pair) for pair in PAIRS])
    assert sizes[8:] == [8] * 8 + [16] * 4  # as given, without accumulation
    ours = np.array([margin(parts.model, pair) for pair in PAIRS])
    # Rounding differs between parts and a whole step. Twice as many steps are far from it.
    assert np.abs(ours - margins[16]).max() < 0.2 * np.abs(ours - margins[4]).max()


def test_text_is_learned_and_gives_a_base_for_any_other_method(tmp_path, tiny):
    tuned = finetune(
        "tiny", [SENTENCE] * 4, objective="text", epochs=40, learning_rate=1e-2, output_dir=tmp_path / "text"
    )
    opening, rest = SENTENCE[:20], SENTENCE[20:]
    before, after = (model.score([opening], [rest])[0, 0] for model in (tiny, tuned.model))
    assert after > before / 2  # log-likelihoods: that of a text it has read is far nearer to 0
    assert tuned.manifest.form == "model"  # stored whole, though LoRA trained it
    assert tuned.manifest.tokens == 40 * 4 * (1 + len(tiny.encode_text(SENTENCE)) + 1)
    rows = [Example("dim the lamp", "fade lamp")] * 4
    for method, epochs in (("lora", 12), ("prompt-tuning", 25)):
        child = finetune(f"hf:{tmp_path / 'text'}", rows, method=method, epochs=epochs, output_dir=tmp_path / method)
        assert child.manifest.base == str(tmp_path / "text/model")
        again = load_model(f"hf:{tmp_path / method}")
        assert again.fingerprint == child.model.fingerprint
        asked = Template().prompt([], "dim the lamp")
        assert Template().read_answer(again.generate(asked, max_tokens=8, stop=("\n\n",)).text) == "fade lamp"


def test_an_adapter_is_a_base_too_and_becomes_part_of_it(tmp_path):
    first = finetune("tiny", [Example("dim the lamp", "fade lamp")] * 4, epochs=15, output_dir=tmp_path / "first")
    second = finetune(
        first.model, PAIRS, objective="preference", epochs=1, learning_rate=1e-9, output_dir=tmp_path / "2"
    )
    assert second.manifest.form == "model"
    asked = Template().prompt([], "dim the lamp")
    scores = [model.score([asked], [" fade lamp", " glow"]) for model in (first.model, second.model)]
    assert np.allclose(*scores, atol=1e-3)  # next to nothing was learned, so it answers like its base
    with pytest.raises(UnsupportedError, match="is an adapter"):
        finetune(first.model, [Example("a", "b")], method="prompt-tuning", output_dir=tmp_path / "3")


def test_a_long_text_is_learned_in_pieces(tiny):
    text = "lamp " * 300
    rows, counts = encode_rows(tiny, [(text, Template())], 64)
    joined = [token for row in rows for token in row["input_ids"]]
    assert joined == [tiny.tokenizer.bos_token_id, *tiny.encode_text(text), tiny.tokenizer.eos_token_id]
    assert max(len(row["input_ids"]) for row in rows) == 64
    assert counts == {"kept": 1, "truncated": 0, "dropped": 0}


def test_a_prompt_that_is_cut_keeps_its_instruction(tiny):
    template = Template(instruction="Turn it.")
    pair = Preference("word " * 100 + "the end", "yes", "no")
    with pytest.warns(UserWarning, match="1 lost the beginning"):
        rows, counts = encode_rows(tiny, [(pair, template)], 64)
    asked = tiny.tokenizer.decode(rows[0]["prompt_ids"], skip_special_tokens=True)
    assert asked.startswith("Turn it.\n\n")
    assert asked.endswith("the end\nOutput:")
    assert tiny.tokenizer.decode(rows[0]["chosen_ids"]) == " yes\n\n<eos>"
    assert len(rows[0]["prompt_ids"]) + len(rows[0]["chosen_ids"]) <= 64
    assert counts["truncated"] == 1


CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '[' + message['role'] + ']' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '[assistant]' }}{% endif %}"
)


def chat_model(template):
    plain = load_model("tiny")
    plain.tokenizer.chat_template = template
    return LocalModel(plain.module, plain.tokenizer, name="chat", fingerprint="chat", source="tiny")


def test_each_turn_of_the_assistant_is_learned_after_what_it_answers():
    model = chat_model(CHAT_TEMPLATE)
    turns = [("system", "be brief"), ("user", "dim"), ("assistant", "fade"), ("user", "light"), ("assistant", "glow")]
    chat = Chat(tuple(Message(role, content) for role, content in turns))
    rows, counts = encode_rows(model, [(chat, Template())], 2048)
    texts = [model.tokenizer.decode(row["input_ids"]) for row in rows]
    assert texts[0] == "<bos>[system]be brief[user]dim[assistant]fade<eos>"
    assert texts[1] == "<bos>[system]be brief[user]dim[assistant]fade<eos>[user]light[assistant]glow<eos>"
    learned = [model.tokenizer.decode([t for t in row["labels"] if t != -100]) for row in rows]
    assert learned == ["fade<eos>", "glow<eos>"]
    assert counts == {"kept": 1, "truncated": 0, "dropped": 0}
    # What is trained is, token for token, what use sends.
    prompt = [t for t, label in zip(rows[0]["input_ids"], rows[0]["labels"], strict=True) if label == -100]
    assert prompt == model.encode_prompt(Chat(chat.messages[:2]))
    # An instruction example goes through the same chat template.
    template = Template().for_model(model)
    row = encode_rows(model, [(Example("dim", "fade"), template)], 2048)[0][0]
    assert model.tokenizer.decode(row["input_ids"]) == "<bos>[user]dim[assistant]fade<eos>"
    with pytest.warns(UserWarning, match="1 lost the beginning"):
        cut = encode_rows(model, [(Example("word " * 100, "fade"), template)], 64)[0][0]
    assert model.tokenizer.decode(cut["input_ids"]).startswith("<bos>[user]")


def test_a_conversation_that_the_model_cannot_write_is_named(tiny):
    turns = Chat((Message("user", "dim"), Message("assistant", "fade")))
    with pytest.raises(UnsupportedError, match=r"`eval\[1\]`: .* has no chat template"):
        encode_rows(tiny, [(Example("a", "b"), Template()), (turns, Template())], 2048, name="eval")
    model = chat_model(
        "{% for message in messages %}{% if message['role'] == 'tool' %}{{ raise_exception('no tools') }}{% endif %}"
        "{{ message['content'] }}{{ eos_token }}{% endfor %}"
    )
    tool = Chat((*turns.messages, Message("tool", "3"), Message("assistant", "three")))
    with pytest.raises(InvalidInputError, match=r"`train\[0\]`: the turns before turn 3 are refused: .*no tools"):
        encode_rows(model, [(tool, Template().for_model(model))], 2048)


def test_the_loss_is_that_of_the_answers_alone(tmp_path, tiny):
    """The oracle is the mean cross-entropy of the answers' tokens, without any trainer."""
    rows = [Example("dim the lamp", "fade lamp"), Example("open", "vent the whole house")]
    tuned = finetune("tiny", rows, epochs=1, output_dir=tmp_path, trainer_config={"max_steps": 1})
    module = AutoModelForCausalLM.from_pretrained(WEIGHTS, dtype=torch.float32)
    total, count = 0.0, 0
    for row in rows:
        head = tiny.encode_prompt(Template().prompt([], row.input))
        tail = [*tiny.encode_text(Template().render_answer(row.output)), tiny.tokenizer.eos_token_id]
        logits = module(torch.tensor([head + tail])).logits[0, len(head) - 1 : -1]
        total += float(torch.nn.functional.cross_entropy(logits, torch.tensor(tail), reduction="sum").detach())
        count += len(tail)
    assert tuned.manifest.loss == pytest.approx(total / count, rel=1e-4)


@pytest.mark.parametrize(
    ("objective", "row", "message"),
    [
        ("completion", "text", r"`train\[1\]` is str; objective='completion' takes an Example"),
        ("completion", {"text": "a"}, r"is a mapping of \['text'\]"),
        ("completion", Example("a", " "), "has no output"),
        ("completion", {"input": "a", "output": None}, "has no output"),
        ("completion", {"input": 3, "output": "b"}, "neither a text nor a mapping"),
        ("completion", {"messages": [{"role": "user"}]}, r"turn 0 has no"),
        ("completion", {"messages": [{"role": "user", "content": "a"}]}, "does not end with the assistant"),
        (
            "completion",
            {"messages": [{"role": "robot", "content": "a"}, {"role": "assistant", "content": "b"}]},
            "robot",
        ),
        ("text", Example("a", "b"), "takes a text, a Document"),
        ("text", "  ", "has no text"),
        ("preference", Example("a", "b"), "takes a Preference"),
        ("preference", Preference("a", "b", "b"), "the same answer"),
        ("preference", {"prompt": "a", "chosen": "b", "rejected": ""}, "has no rejected"),
    ],
)
def test_a_row_of_another_shape_is_named(objective, row, message):
    good = {"completion": Example("a", "b"), "text": "a", "preference": Preference("a", "b", "c")}[objective]
    with pytest.raises(InvalidInputError, match=message):
        training_rows([good, row], objective)


def test_mappings_stand_for_records():
    assert training_rows([{"prompt": "a", "completion": "b"}, {"input": {"x": "a"}, "output": "b"}], "completion") == [
        Example("a", "b"), Example({"x": "a"}, "b"),
    ]  # fmt: skip
    rows = [
        {"instruction": "Translate.", "input": "a", "output": "b"},
        {"instruction": "Name a fruit.", "input": "", "output": "apple", "system": "", "history": []},
        {"instruction": "Name a fruit.", "output": "apple"},
    ]
    assert training_rows(rows, "completion") == [
        Example("Translate.\n\na", "b"), Example("Name a fruit.", "apple"), Example("Name a fruit.", "apple"),
    ]  # fmt: skip
    assert training_rows([{"text": "a"}, Document("b")], "text") == ["a", "b"]
    assert training_rows([{"prompt": "a", "chosen": "b", "rejected": "c"}], "preference") == [Preference("a", "b", "c")]
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert training_rows([{"messages": turns}], "completion") == [
        Chat((Message("user", "a"), Message("assistant", "b")))
    ]
    with pytest.raises(InvalidInputError, match="must be a sequence"):
        training_rows("text", "text")
    with pytest.raises(EmptyPoolError):
        training_rows([], "text")


def said(role, content, **more):
    return {"role": role, "content": content, **more}


def test_lists_of_messages_stand_for_prompts_and_answers():
    context = [said("user", "a"), said("assistant", "b"), said("user", "c")]
    (chat,) = training_rows([{"prompt": context, "completion": [said("assistant", "d")]}], "completion")
    assert [(turn.content, turn.weight) for turn in chat.messages if turn.role == "assistant"] == [("b", 0), ("d", 1)]
    asked = Chat(tuple(Message(turn["role"], turn["content"]) for turn in context))
    better, worse = [said("assistant", "good")], [said("assistant", "bad")]
    rows = [
        {"prompt": context, "chosen": better, "rejected": worse},
        {"chosen": [*context, *better], "rejected": [*context, *worse]},
    ]
    assert training_rows(rows, "preference") == [Preference(asked, "good", "bad")] * 2


def test_preferences_over_a_conversation_are_learned_after_it():
    model = chat_model(CHAT_TEMPLATE)
    chat = Chat((Message("system", "be brief"), Message("user", "dim")))
    (row,), _ = encode_rows(model, [(Preference(chat, "fade", "glow"), Template().for_model(model))], 2048)
    texts = [model.tokenizer.decode(row[name]) for name in ("prompt_ids", "chosen_ids", "rejected_ids")]
    assert texts == ["<bos>[system]be brief[user]dim[assistant]", "fade<eos>", "glow<eos>"]
    assert data_hash([Preference(chat, "a", "b")]) != data_hash([Preference(Chat(chat.messages[1:]), "a", "b")])


ANSWER = [said("assistant", "b")]


@pytest.mark.parametrize(
    ("objective", "row", "term"),
    [
        ("completion", {"messages": [said("assistant", "hello"), said("user", "a"), *ANSWER]}, "turn 0"),
        ("completion", {"messages": [said("user", " "), *ANSWER]}, "turn 0"),
        ("completion", {"messages": [said("user", "a"), said("assistant", "b", train=False)]}, "turn 1.*train"),
        (
            "completion",
            {"messages": [said("user", "a"), said("assistant", "b", function_call={"name": "f"})]},
            "turn 1",
        ),
        ("completion", {"messages": [said("user", "a"), said("assistant", "b", reasoning_content="c")]}, "turn 1"),
        ("completion", {"messages": [said("user", "a"), {"role": "assistant"}]}, "turn 1"),
        ("completion", {"messages": [said("user", [{"type": "text", "text": "a"}]), *ANSWER]}, "turn 0"),
        ("completion", {"messages": [said("user", "a"), *ANSWER], "tools": [{"type": "function"}]}, "tools"),
        ("completion", {"prompt": "a", "completion": "b", "weight": 0}, "weight"),
        ("completion", {"instruction": "a", "output": "b", "history": [["c", "d"]]}, "history"),
        ("completion", {"instruction": "a", "output": "b", "system": "c"}, "system"),
        ("completion", {"instruction": {"x": "a"}, "input": "a", "output": "b"}, "instruction"),
        ("completion", {"prompt": [said("user", "a")], "completion": [said("user", "b")]}, "assistant"),
        ("completion", {"prompt": [said("user", "a")], "completion": "b"}, "prompt"),
        ("preference", {"prompt": [said("user", "a")], "chosen": ANSWER, "rejected": "c"}, "messages"),
        ("preference", {"chosen": ANSWER, "rejected": [said("assistant", "c")]}, "prompt"),
        (
            "preference",
            {"prompt": [said("user", "")], "chosen": ANSWER, "rejected": [said("assistant", "c")]},
            "turn 0",
        ),
        (
            "preference",
            {"chosen": [said("user", "a"), *ANSWER], "rejected": [said("user", "A"), said("assistant", "c")]},
            "differ",
        ),
        ("preference", {"prompt": "a", "chosen": [said("user", "a")], "rejected": ANSWER}, "messages"),
        ("preference", {"chosen": [said("user", "a")], "rejected": [said("user", "b")]}, "assistant"),
    ],
)
def test_what_would_be_learned_wrongly_is_named(objective, row, term):
    with pytest.raises(InvalidInputError, match=rf"`rows\[1\]`.*{term}"):
        training_rows([{"completion": Example("x", "y"), "preference": Preference("x", "y", "z")}[objective], row],
                      objective, name="rows")  # fmt: skip


def test_an_opening_of_the_assistant_may_be_context(tmp_path):
    turns = [said("assistant", "hello", weight=0), said("user", "a"), said("assistant", "b")]
    model = chat_model(CHAT_TEMPLATE)
    rows, _ = encode_rows(model, [(training_rows([{"messages": turns}], "completion")[0], Template())], 2048)
    assert [model.tokenizer.decode(row["input_ids"]) for row in rows] == [
        "<bos>[assistant]hello<eos>[user]a[assistant]b<eos>"
    ]


def test_a_renamed_instruction_is_read_once(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"instruction": "Name a fruit.", "output": "apple"}))
    assert read_rows(path, "completion", input="instruction")[0] == [Example("Name a fruit.", "apple")]
    assert read_rows(path, "completion")[0] == [Example("Name a fruit.", "apple")]


def test_files_are_read_with_their_splits(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [{"prompt": "a", "completion": "1"}, {"prompt": "b", "completion": "2", "split": "dev"},
            {"prompt": "c", "completion": "3", "split": "test"}]  # fmt: skip
    path.write_text("\n".join(map(json.dumps, rows)))
    assert read_rows(path, "completion") == ([Example("a", "1")], [Example("b", "2")])
    with pytest.raises(DataFileError, match="row 1 is a mapping"):
        read_rows(path, "preference")
    path.write_text(json.dumps(rows[2]))
    with pytest.raises(DataFileError, match="holds no row to train on"):
        read_rows(path, "completion")
    path.write_text("")
    with pytest.raises(DataFileError, match="has no rows"):
        read_rows(path, "completion")
    text = tmp_path / "corpus.txt"
    text.write_text("one\nparagraph\n\n\n\nanother")
    assert read_rows(text, "text") == (["one\nparagraph", "another"], [])


def test_a_mixture_balances_its_tasks(tmp_path, tiny):
    many = [Example(f"item {n}", "many") for n in range(9)]
    few = Task("Say few.", [Example("x", "few"), Example("y", "few")], [])
    even = mix({"many": many, "few": few}, size=8)
    assert [even.tasks.count(name) for name in ("many", "few")] == [4, 4]
    assert all([row.input for row in even].count(name) == 2 for name in ("x", "y"))
    assert mix({"many": many, "few": few}, size=8) == even
    assert mix({"many": many, "few": few}, size=8, seed=1) != even
    natural = mix({"many": many, "few": few}, alpha=1)
    assert [natural.tasks.count(name) for name in ("many", "few")] == [9, 2]
    assert sorted(row.input for row in natural if row.output == "many") == sorted(row.input for row in many)
    between = mix({"many": many, "few": few}, size=100, alpha=0.5)
    assert between.tasks.count("many") == round(100 * 3 / (3 + 2**0.5))
    tuned = finetune("tiny", even, epochs=1, output_dir=tmp_path)
    assert tuned.manifest.template_of("few") == few.template.for_model(tuned.model)
    assert tuned.manifest.template_of("many") == tuned.manifest.template == Template(form="text")
    with pytest.raises(UnknownSpecError, match="Did you mean 'few'"):
        tuned.manifest.template_of("fwe")
    with pytest.raises(InvalidInputError, match="at least 2"):
        mix({"many": many, "few": few}, size=1)
    with pytest.raises(EmptyPoolError, match="'none'"):
        mix({"none": []})
    assert isinstance(even, Mixture)
