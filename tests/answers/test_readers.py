"""Answer readers: which answer a completion gives, and when it gives none."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from decimal import Decimal

import pytest
from hostile import hostile
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ragkit.answers import AnswerReader, NumberReader, ReadAnswer, load_reader, without_reasoning
from ragkit.errors import InvalidInputError, UnknownSpecError
from ragkit.metrics import load_metric

LABELS = (
    "card arrival",
    "card",
    "card linking",
    "other",
    "C",
    "C++",
    "C#",
    "US",
    "us",
    "-1",
    "1",
    "toxic",
    "non-toxic",
)
OPTIONS = ("Paris", "Lyon", "a small town", "Nice")


def read(spec, text, **given):
    answer = load_reader(spec, **given).read(text)
    assert bool(answer.why) != answer.readable
    return answer.text if answer.readable else None


# -- specs


@pytest.mark.parametrize(
    "spec",
    ["first-line", "whole", "label", "choice", "number", "json:a.b", r"regex:(\d+)|x", "after:####|number"],
)
def test_a_reader_gives_the_spec_that_loads_it(spec):
    reader = load_reader(spec, labels=["a"], options=["x"])
    assert reader.spec == spec
    assert load_reader(reader.spec, labels=["a"], options=["x"]) == reader
    assert load_reader(reader) is reader


@pytest.mark.parametrize(
    ("spec", "given", "message"),
    [
        ("numbr", {}, "Did you mean 'number'"),
        ("jsn:answer", {}, "Did you mean 'json:<field>'"),
        ("after:x|labl", {}, "Did you mean 'label'"),
        ("json:", {}, "needs the name of a field"),
        ("after:", {}, "needs a marker"),
        ("after:|number", {}, "needs a marker"),
        ("regex:", {}, "needs a pattern"),
        ("regex:(a", {}, r"the pattern '\(a' .* is not a valid regular expression: missing \)"),
        ("number:3", {}, "'number' takes no argument, got '3'"),
        ("label", {}, "needs the labels of the task"),
        ("label", {"labels": []}, "needs the labels of the task"),
        ("label", {"labels": ["a", " "]}, "none of them blank"),
        ("label", {"labels": "abc"}, "`labels` must be a sequence"),
        ("label", {"labels": ["a", 1]}, "`labels` must be a list of strings"),
        ("label:a", {"labels": ["a"]}, "takes no argument"),
        ("choice", {"options": []}, "1 to 26 options"),
        ("choice", {"options": ["x"] * 27}, "1 to 26 options"),
    ],
)
def test_specs_that_do_not_fit_are_refused(spec, given, message):
    with pytest.raises((InvalidInputError, UnknownSpecError), match=message):
        load_reader(spec, **given)


def test_an_unreadable_answer_keeps_the_completion_without_its_reasoning():
    assert load_reader("number").read("<think>5</think>\n no idea \n") == ReadAnswer(
        "no idea", False, "it has no number"
    )
    truncated = load_reader("whole").read("<think>It might be 5")
    assert truncated == ReadAnswer("", False, "the completion ends inside its reasoning")
    assert load_reader("whole").read(" \n") == ReadAnswer("", False, "the completion is empty")
    assert load_reader("json:a").read('{"a": " "}') == ReadAnswer('{"a": " "}', False, "the answer is empty")


# -- reasoning


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("<think>B? No.</think>A", "A"),
        ("<think>one\ntwo</think>\n\n A", "\n\n A"),
        ("one\n</think>A", "A"),
        ("<THINK>B</Think>A", "A"),
        ('<thinking effort="high">B</thinking >A', "A"),
        ("<reasoning>B</reasoning>A", "A"),
        ("<thought>B</thought>A", "A"),
        ("<think></think>A", "A"),
        ("<think>a<think>b</think>c</think>A", "A"),
        ("<think>a</think><think>b</think>A", "A"),
        ("Well, <think>B</think>A", "Well, A"),
        ("Well, <think>B</think> C?</think>A", "A"),
        ('He says "B</think>A', "A"),
        ('<think>He says "B</think>A "x"', 'A "x"'),
        ('<think>B</think>{"a": "use <think> and </think>"}', '{"a": "use <think> and </think>"}'),
        ('<think>B</think>{"a": "say \\"<think>\\""}', '{"a": "say \\"<think>\\""}'),
        ('{"a": "</think>"}', '{"a": "</think>"}'),
        ('```json\n{"a": "<think>"}\n```', '```json\n{"a": "<think>"}\n```'),
        ('{"draft": "B"}</think>{"a": "A"}', '{"a": "A"}'),
        ("The tag `<think>` opens it", "The tag `<think>` opens it"),
        ("<scratchpad>B</scratchpad>A", "A"),
        ("<seed:think>B</seed:think>A", "A"),
        ("[THINK]B[/THINK]A", "A"),
        ("B[/THINK]A", "A"),
        ("◁think▷B◁/think▷A", "A"),
        ("<|begin_of_thought|>B<|end_of_thought|>A", "A"),
        ("<|START_THINKING|>B<|END_THINKING|>A", "A"),
        ("<|channel|>analysis<|message|>B<|end|><|start|>assistant<|channel|>final<|message|>A", "A"),
        ('{"a": "[THINK]"}', '{"a": "[THINK]"}'),
        ("<thinker>A", "<thinker>A"),
        ("no tags", "no tags"),
    ],
)
def test_reasoning_is_removed(text, left):
    assert without_reasoning(text) == (left, False)


@pytest.mark.parametrize("text", ["<think>A", "B <think>A", "<think>a</think><think>A", "x</think><Thinking a='b'>A"])
def test_truncated_reasoning_has_no_answer(text):
    assert without_reasoning(text).truncated
    for spec in ("first-line", "whole", "label", "choice", "number", "json:a", "regex:A", "after:A"):
        assert not load_reader(spec, labels=["A"]).read(text).readable


ANSWERS = ["B", "The answer is 7.", "card arrival", '{"a": {"b": 1}}', 'x\n"quoted"', "Label: C++", "#### 12", "none"]
SPECS = ["first-line", "whole", "label", "choice", "number", "json:a.b", "regex:[a-z]+", "after:####|number"]
thoughts = (st.text(max_size=30) | hostile('{"a": "b"}', "The answer is B", '"', "```\n")).filter(
    lambda t: "think" not in t
)


@settings(max_examples=200, deadline=None)
@given(thoughts, st.sampled_from(ANSWERS), st.sampled_from(["<think>", "<Think>", '<think a="b">', ""]))
@example('"', '{"a": {"b": 1}}', "")
@example('{"', '{"a": {"b": 1}}', "")
def test_reasoning_never_changes_the_answer(thought, answer, opening):
    for spec in SPECS:
        reader = load_reader(spec, labels=LABELS, options=OPTIONS)
        assert reader.read(f"{opening}{thought}</think>{answer}") == reader.read(answer)


# -- lines, markers and patterns


@pytest.mark.parametrize(
    ("spec", "text", "answer"),
    [
        ("first-line", "\n \n one \ntwo", "one"),
        ("first-line", "```sql\nSELECT 1\n```", "SELECT 1"),
        ("first-line", "```\n```", None),
        ("whole", " one\n two ", "one\n two"),
        ("after:####", "a #### b\n#### c\nd", "c\nd"),
        ("after:####|first-line", "a\n#### c\nd", "c"),
        ("after:####|number", "1 #### 2 ####", "2"),
        ("after:Answer:|number", "1\nanswer: 2 boxes", "2"),
        ("after:Answer:", "**Answer:** red", "red"),
        ("after:Answer:", "**Answer: red**", "red**"),
        ("after:答案:", "最终答案：红", "红"),
        ("after:A:", "Banana: 1", None),
        ("after:Answer:", "red", None),
        ("after:Answer:", "Answer: ", None),
        ("after:Answer: | label", "card? Answer: other.", "other"),
        ("after:A.|after:B.|whole", "A. x B. y", "y"),
        (r"after:Answer:|regex:(\d+)|x", "5 Answer: 6", "6"),
        (r"regex:is (\w+)", "it is red", "red"),
        (r"regex:\d+", "a 12 b 13", "12"),
        (r"regex:a(\d)|b(\d)", "b2", "2"),
        (r"regex:x*", "abc", None),
        (r"regex:\d", "abc", None),
        (r"regex:z", "a" * 20_000 + "z", None),
    ],
)
def test_lines_markers_and_patterns(spec, text, answer):
    assert read(spec, text, labels=LABELS) == answer


# -- JSON


@pytest.mark.parametrize(
    ("field", "text", "answer"),
    [
        ("answer", '{"answer": " red "}', "red"),
        ("answer", 'Here:\n```json\n{"answer": "red"}\n```\nDone {"answer": "blue"}', "red"),
        ("answer", 'Let S = {1, 2} and \\frac{1}{2}. {"answer": "red"}', "red"),
        ("answer", '[{"answer": "red"}]', "red"),
        ("answer", '<think>{"answer": "blue"}</think>{"answer": "red"}', "red"),
        ("answer", '{"answer": 2.50}', "2.5"),
        ("answer", '{"answer": 7}', "7"),
        ("answer", '{"answer": 1e3}', "1000"),
        ("answer", '{"answer": 0.30000000000000004000001}', "0.30000000000000004000001"),
        ("answer", '{"answer": true}', "true"),
        ("answer", '{"answer": {"b": 2.0, "a": ["é", null]}}', '{"a": ["é", null], "b": 2}'),
        ("a.b", '{"a": {"b": "red"}}', "red"),
        ("a.b", '{"a.b": "red", "a": {"b": "blue"}}', "red"),
        ("a.1.b", '{"a": [0, {"b": "red"}]}', "red"),
        ("a.2", '{"a": [0, 1]}', None),
        ("a.b", '{"a": "b"}', None),
        ("answer", '{"answer": null}', None),
        ("answer", '{"other": "red"}', None),
        ("answer", '{"steps": {"answer": "blue"}, "answer": "re', None),
        ("answer", '{"answer": NaN}', None),
        ("answer", "{'answer': 'red'}", None),
        ("answer", '{"answer":' * 5000, None),
        ("answer", "red", None),
        ("answer", '{"answer": ' + "9" * 5000 + "}", "9" * 5000),
    ],
)
def test_json_fields(field, text, answer):
    assert read(f"json:{field}", text) == answer


# -- labels


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("card arrival", "card arrival"), ("Card Arrival.", "card arrival"), ("card_arrival", "card arrival"),
        ("CARD-ARRIVAL!", "card arrival"), ("ｃａｒｄ", "card"), ("card", "card"), ("**card**", "card"),
        ('"card"', "card"), ("Label: card arrival", "card arrival"), ("**Label:** card", "card"),
        ("The answer is: card arrival", "card arrival"), ("Category – card", "card"), ("Answer:\ncard", "card"),
        ("A card? The category of the text is other.", "other"),
        ("Réponse : card arrival", "card arrival"), ("答案：card", "card"), ("Intent -> card", "card"),
        ("It is card arrival.", "card arrival"), (r"\boxed{\text{card}}", "card"), ("<answer>card</answer>", "card"),
        ("card\nbecause it is not card linking", "card"), ("card\n\nInput: x\nOutput: other", "card"),
        ("The answer is card arrival, because the card is late.", "card arrival"),
        ("Card arrival. The customer does not ask about card linking.", "card arrival"),
        ("I think this is about card arrival.", "card arrival"), ('{"label": "card"}', "card"),
        ("The customer mentions a card and other things.\nThe answer is card linking.", "card linking"),
        ("C", "C"), ("c++", "C++"), ("I like C++", "C++"), ("c#.", "C#"), ("US", "US"), ("us", "us"),
        ("The answer is US.", "US"), ("-1", "-1"), ("−1", "-1"), ("Label: -1", "-1"), ("1.", "1"),
        ("It is non-toxic.", "non-toxic"), ("toxic", "toxic"), ("<think>card or other?</think>C#", "C#"),
        ("Us", None), ("not card", None), ("It isn't a card", None), ("It isn’t card", None), ("Not: card", None),
        ("This is neither toxic nor other", None), ("card or card linking", None), ("card, other", None),
        ("card / other", None), ("card. Or other.", None), ("card. Actually, other.", None),
        ("card, or other? The answer is other.", "other"), ("Card arrival. Other.", None),
        ("The answer is card. The answer is other.", None), ("cards", None), ("nontoxic", None), ("detoxic", None),
        ("I like C++ and C#", None), ("1,000", None), ("1.5", None), ("+1", None), ("", None), ("???", None),
        ("no idea", None), ("It is card arrival, not card linking.", None),
    ],
)  # fmt: skip
def test_labels_are_read_or_not_at_all(text, label):
    assert read("label", text, labels=LABELS) == label


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("The question asks about a role in the human body.", None),
        ("Insulin plays a role in the human body, where it regulates sugar.", None),
        ("The person who invented it lived in a small location near Paris.", None),
        ("这个问题问的是人体中的胰岛素起什么作用，属于一般的描述。", None),
        ("The question asks about the human body.\nSo the answer is description.", "description"),
        ("Let me look at the words of the question first.\n\nlocation", "location"),
        ("The question asks who invented it, so a human or a group.\n**human**", "human"),
        ("human\nThe question asks about a role in the human body.", "human"),
        ("I would say it is human here", "human"),
        ("这个问题是描述。", "描述"),
    ],
)
def test_a_label_in_long_prose_is_not_an_answer(text, label):
    assert read("label", text, labels=["human", "location", "description", "描述"]) == label


@pytest.mark.parametrize(
    ("labels", "text", "label"),
    [
        (["正面", "负面"], "这条评论是正面的。", "正面"),
        (["正面", "负面"], "答案：负面。", "负面"),
        (["正面", "负面"], "不是正面", None),
        (["正面", "负面"], "正面和负面", None),
        (["红", "蓝"], "粉红色", None),
        (["红", "蓝"], "答案是红。", "红"),
        (["हाँ", "हूँ"], "उत्तर: हूँ।", "हूँ"),
        (["да", "нет"], "Ответ: Нет", "нет"),
        (["แม", "แม่"], "แม่", "แม่"),
        (["แม", "ok"], "คือแม่", None),
        (["نعم", "لا"], "الإجابة: نعم", "نعم"),
        (["می‌خواهم", "نه"], "میخواهم", "می‌خواهم"),
        (["café"], "cafe\u0301", "café"),
        (["👍", "👎"], "I say 👍.", "👍"),
        (["+", "-"], "-", "-"),
        (["+", "-"], " + ", "+"),
        (["+", "-"], "*", None),
        (["Refund, not received", "Refund"], "Label: refund, not received", "Refund, not received"),
        (["yes", "no"], "Yes, because there is no doubt", "yes"),
        (["yes", "no"], "Yes and no", None),
        (["bug: ui", "ui"], "Label: bug: ui", "bug: ui"),
        (["A", "B"], "a", "A"),
        (["entailment", "not_entailment"], "not entailment", "not_entailment"),
        (["x", "x"], "x", "x"),
    ],
)
def test_labels_of_many_kinds(labels, text, label):
    assert read("label", text, labels=labels) == label


def test_labels_are_found_among_thousands():
    labels = [f"topic {n} part {n * 7}" for n in range(5000)]
    reader = load_reader("label", labels=labels)
    assert [reader.read(f"I would say it is **{label}** here").text for label in labels] == labels
    assert not reader.read("topic 3 part").readable


WORDS = ["blue", "green", "lamp", "ship", "été", "дом", "हूँ", "猫", "v2", "C++", "3.5"]
names = st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).flatmap(
    lambda words: st.sampled_from([" ", "_", "-", " / "]).map(lambda between: between.join(words))
)
WRAPPERS = [
    "{}", " {}\n", "{}.", "**{}**", '"{}"', "`{}`", "({})", "Label: {}", "Answer: **{}**", "The answer is {}.",
    "The correct label is: {}", "Category – {}", "{}\n\nThe text says so.", "<answer>{}</answer>", "答案：{}",
    "The answer is {}, because of the words.", "<think>blue? green? lamp?</think>{}",
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(names, min_size=1, max_size=6, unique_by=lambda name: tuple(re.split(r"[ _/-]+", name))))
def test_a_label_reads_back_from_itself_and_from_wrappers(labels):
    reader = load_reader("label", labels=labels)
    for label in labels:
        assert [reader.read(wrapper.format(label)) for wrapper in WRAPPERS] == [ReadAnswer(label)] * len(WRAPPERS)


@given(st.lists(st.text(min_size=1).map(str.strip).filter(bool), min_size=1, max_size=5, unique=True))
def test_any_label_reads_back_from_itself(labels):
    reader = load_reader("label", labels=labels)
    for label in labels:
        if without_reasoning(label).text == label:
            assert reader.read(label) == ReadAnswer(label)


# -- options


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"), ("b", "B"), ("(B)", "B"), ("B.", "B"), ("B)", "B"), ("[[B]]", "B"), ("{B}", "B"), ("**B**", "B"),
        ("`B`", "B"), ("「B」", "B"), ("Ｂ", "B"), ("（Ｂ）", "B"), ("B: Lyon", "B"), ("B - Lyon", "B"),
        ("(B) Lyon", "B"),
        ("The answer is B", "B"), ("The answer is: (b)", "B"), ("Answer:\nB", "B"), ("**Answer:** B", "B"),
        ("Answer: **B. Lyon**", "B"), ("The correct answer is option B.", "B"), ("The answer would be B.", "B"),
        ("The answer to your question is B.", "B"),
        ("The answer is B because it is", "B"), ("C, because A is wrong", "C"), ("I choose B.", "B"), ("Option D", "D"),
        (r"\boxed{B}", "B"), (r"So $\boxed{\text{(B)}}$.", "B"), (r"A? \boxed{B}", "B"), (r"\boxed{\text{Lyon}}", "B"),
        ("答案：B", "B"), ("回答：Ｂ", "B"), ("答案是B。", "B"), ("Réponse : B", "B"), ("Ответ: B", "B"),
        ("정답: B", "B"),
        ("الإجابة: B", "B"), ("Đáp án: B", "B"), ("Vastauksesi: B", "B"), ("<answer>B</answer>", "B"),
        ("B\nBecause Lyon is large.", "B"), ("It is large.\nB", "B"), ("A. Paris\nB. Lyon\nAnswer: B", "B"),
        ("Let us look at option A. No. The answer is C.", "C"), ("B. Lyon, since A is wrong", "B"), ("Lyon", "B"),
        ("It is Lyon.", "B"), ("a small town", "C"), ("<think>A. The answer is A.</think>B", "B"),
        ("A or B", None), ("(A) and (B)", None), ("A, B", None), ("The answer is A or B.", None), ("A\nB", None),
        ("The answer is A. No, the answer is B.", None), ("Options:\nA. Paris\nB. Lyon", None), ("E", None),
        ("A. Paris\nB. Lyon", None), ("not B", None), ("The answer is not B", None), ("It isn't option B", None),
        (r"\fbox{B}", "B"), ("정답은 B입니다", "B"), ("답은 B", "B"), ("คำตอบคือ B", "B"), ("উত্তর হল B", "B"),
        ("ปัญหา: B", "B"), ("La respuesta correcta es la B", "B"), ("La bonne réponse est la B.", "B"), ("選 B", "B"),
        ("答えはBです。", "B"), ("选择B", "B"), ("Đáp án là B", "B"), ("الإجابة هي B", "B"), ("जवाब: B।", "B"),
        ("The answer is x", None), ("The answer is (x)", None),
        ("Option b", "B"), ("The answer is b.", "B"), ("answer: b", "B"), ("It's B", "B"), ("It is B.", "B"),
        ("#### B", "B"), ("«B»", "B"), ("„B“", "B"), ("The answer is «B».", "B"),
        ("The answer is a bit long", None), ("It is a small city", None), ("Plan B fails", None), ("It is A man", None),
        ("A small city", None), ("Paris or Lyon", None), ("Not Paris", None), ("I think so", None), ("", None),
        (r"\boxed{A} or \boxed{B}", None), ("<think>B", None),
    ],
)  # fmt: skip
def test_options_are_read_or_not_at_all(text, letter):
    assert read("choice", text, options=OPTIONS) == letter


def test_letters_are_read_without_options():
    assert read("choice", "The answer is Q.") == "Q"
    assert read("choice", "Paris") is None


@given(st.sampled_from("ABCD"), st.sampled_from([*WRAPPERS, "Option {}", "({}) Lyon", "I choose {}.", "{} - Lyon"]))
def test_a_letter_reads_back_from_wrappers(letter, wrapper):
    text = wrapper.replace("Label", "Answer").replace("label", "option").replace("Category", "Choice").format(letter)
    assert read("choice", text, options=OPTIONS) == letter


# -- numbers


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("9500", "9500"), ("-3.50", "-3.5"), ("−3.5", "-3.5"), ("－３．５", "-3.5"), ("+5", "5"), ("-0.0", "0"),
        ("$1,234.50", "1234.5"), ("-$5", "-5"), ("$-5", "-5"), ("$ 5", "5"), ("€9.500,00", "9500"), ("9,50 €", "9.5"),
        ("1.234.567", "1234567"), ("1.234", "1.234"), ("9{,}500", "9500"), ("9,500", "9500"), ("9\u202f500", "9500"),
        ("9\u00a0500,5", "9500.5"), (r"9\,500", "9500"), ("9'500", "9500"), ("9 500", "9500"),
        ("10 000 000", "10000000"),
        ("500 000 km", "500000"), ("100 200", "200"), ("5 100 20", "20"), ("1,00,000", "100000"), ("0,5", "0.5"),
        ("12,5 %", "12.5"), ("1,2", "2"), ("-1,2", "2"),
        ("45%", "45"), ("٤٥٫٥", "45.5"), ("١٬٢٣٤", "1234"), ("１２３", "123"),
        ("3/4", "0.75"), ("-3/4", "-0.75"), ("1 3/4", "1.75"), ("3½", "3.5"), ("¼", "0.25"), (r"\frac{3}{4}", "0.75"),
        ("1/3", "0.3333333333333333333333333333"), ("1/0", None), ("12/05/2024", "2024"), ("6.02e3", "6020"),
        ("6 × 10^3", "6000"), (r"6 \times 10^{-3}", "0.006"), ("2×10⁻³", "0.002"), ("10^6", "1000000"),
        ("1e3.", "1000"),
        ("It is 42.", "42"), ("(5)", "5"), ("x=-5", "-5"), ("10-5", "5"), ("2023–2024", "2024"), (".5", "0.5"),
        ("No.5", "5"),
        ("共5个", "5"), ("5km", "5"), ("5 m²", "5"), ("5 m2", "5"), ("答案：１２", "12"), ("no", None),
        ("GPT4 has 12 layers and beats BERT-2", "12"), ("12 of them are B2B", "12"), ("42 in step 3", "42"),
        ("42, the 3rd", "42"), ("GPT4", "4"), ("There are 12:\n1. First\n2. Second", "12"),
        ("1. First: 8\n2. Second: 9", "9"),
        ("42.", "42"), ("The answer to the question is 5, out of 10.", "5"), ("The answer is 42 (see page 7).", "42"),
        ("The answer is 3 + 4 = 7.", "7"), ("Answer: there were 3 boxes of 5, so 15 in all.", "15"),
        ("**Answer:** 12 apples for 3 children", "12"), ("Answer: about $1,500.00, or 3 each", "1500"),
        ("Réponse : 8 sur 10", "8"), ("The answer is clear.\nSo 5 remain.", "5"),
        ("#### 72\nThat was step 3 of 4", "72"),
        ("The answer is 3.\n#### 72", "72"), (r"\boxed{9{,}500 \text{ m}^2} for 3", "9500"),
        (r"#### 3 \boxed{5} 7", "5"),
        (r"\boxed{\frac{3}{4}}", "0.75"), (r"\boxed{\text{none}} of 7", "7"), (r"\boxed{x = 5}", "5"),
        ("Answer: 3 + 4 = 7 for 2 children", "7"), ("\\boxed{none} of 7.\nSo 5 remain.", "5"),

        ("-US$5", "-5"), ("-USD 5", "-5"), ("-USD5", "-5"), ("-A$5", "-5"), ("-Rs. 500", "-500"), ("USD -5", "-5"),
        ("₹9,50,000", "950000"), (r"-\$5", "-5"), ("-€3.5 million", "-3.5"), ("US$5", "5"),
        (r"9,\!500", "9500"), (r"\boxed{9,\!500}", "9500"), (r"-\frac{1}{2}", "-0.5"), ("-½", "-0.5"),
        (r"\boxed{-\frac12}", "-0.5"), (r"2\tfrac{1}{2}", "2.5"), (r"5-\frac{1}{2}", "0.5"),
        ("minus 5", "-5"), ("The answer is negative 5.", "-5"), ("It fell to minus $5", "-5"), ("10 minus 5", "5"),
        ("<think>5</think>six 6", "6"),
    ],
)  # fmt: skip
def test_numbers_are_read(text, number):
    assert read("number", text) == number


FORMATS = {
    "plain": lambda n: f"{n:f}",
    "commas": lambda n: f"{n:,f}",
    "dollars": lambda n: f"{n:,f}".replace("-", "-$") if n < 0 else f"${n:,f}",
    "LaTeX": lambda n: f"{n:,f}".replace(",", "{,}"),
    "narrow spaces": lambda n: f"{n:,f}".replace(",", "\u202f"),
    "euros": lambda n: f"{n:,.2f} €".translate(str.maketrans(",.", ".,")) if n == round(n, 2) else f"{n:f}",
    "minus sign": lambda n: f"{n:f}".replace("-", "−"),
    "full width": lambda n: f"{n:f}".translate({ord("0") + d: 0xFF10 + d for d in range(10)}),
    "Arabic": lambda n: f"{n:f}".translate({ord("0") + d: 0x660 + d for d in range(10)} | {ord("."): "٫"}),
    "scientific": lambda n: f"{n:e}",
}
NUMBER_WRAPPERS = [
    "{}",
    "It is {}.",
    "7 + 8: {}",
    "#### {}\n3",
    "The answer is {}. There were 9.",
    r"$\boxed{{{}}}$, not 4",
]
values = st.decimals(-(10**12), 10**12, allow_nan=False, allow_infinity=False, places=3) | st.integers(
    -(10**9), 10**9
).map(Decimal)


@settings(max_examples=300, deadline=None)
@given(values, st.sampled_from(sorted(FORMATS)), st.sampled_from(NUMBER_WRAPPERS))
def test_a_number_survives_its_formats(value, name, wrapper):
    answer = NumberReader().read(wrapper.format(FORMATS[name](value)))
    assert Decimal(answer.text) == value
    assert answer.text == (str(int(value)) if value == int(value) else str(value).rstrip("0"))


def test_exact_numbers_of_any_length():
    digits = "123456789" * 600
    assert read("number", f"-{digits}.5") == f"-{digits}.5"
    assert read("number", "1e9999") == "1" + "0" * 9999


# -- anything at all


READERS = [load_reader(spec, labels=LABELS, options=OPTIONS) for spec in SPECS]
everything = st.text(st.characters(exclude_categories=())) | hostile(
    'x {"a": {"b": -1.5}}', "**Answer:** card arrival.", r"\boxed{\frac{3}{4}}", "<think>a</think>B", "#### 9,500 €"
)


@settings(max_examples=300, deadline=None)
@given(everything)
@example("\ud800")
@example('{"a": 1e99999999999999999999}')
@example('{"a": {"b": ' + "[" * 900 + "]" * 900 + "}}")
def test_no_text_makes_a_reader_raise(text):
    for reader in READERS:
        answer = reader.read(text)
        assert isinstance(answer.text, str)
        assert answer.readable == (not answer.why)
        assert not answer.readable or answer.text.strip()


PIECES = [
    "1,111,", "1 111 ", "1/", "\\boxed{", "#### ", "answer is ", "answer is A, ", "A) ", "card ", "card arrival not ",
    '{"', '{"a":1,', '"\\', "<think>", "</think>", '"<think', "\u0301\u0316", "\n", "：", "答案", "\ud800",
]  # fmt: skip


@pytest.mark.parametrize("piece", PIECES)
def test_long_texts_take_linear_time(piece):
    text = "The answer is A" + piece * (200_000 // len(piece))
    start = time.process_time()
    for reader in READERS:
        reader.read(text)
    assert time.process_time() - start < 120  # quadratic steps would take hours, on any machine


# -- metrics and extension


def test_metrics_read_as_the_readers_do():
    assert load_metric("number")("The answer is 5, out of 10.", "5") == 1.0
    assert load_metric("number")("<think>5</think>six", "5") == 0.0
    assert load_metric("number")("$5", "-$5") == 0.0
    assert load_metric("accuracy")("<think>blue</think>\nRed.", "red") == 1.0
    assert load_metric("accuracy")("<think>red", "red") == 0.0
    assert load_metric("records")('<think>[{"a": 1}]</think>[{"a": 2}]', '[{"a": 2}]') == 1.0


PLUGIN = """
from ragkit.answers import AnswerReader, ReadAnswer
from ragkit.registry import register

@register("answer reader", "last-word")
class LastWord(AnswerReader):
    spec = "last-word"

    def extract(self, text):
        return ReadAnswer(text.split()[-1])
"""
USE = """
import json, warnings
from ragkit.answers import load_reader
from ragkit.registry import specs
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    answer = load_reader("after:so|last-word").read("<think>so x</think> so it is red")
print(json.dumps([answer.text, "last-word" in specs("answer reader"), [str(each.message) for each in caught]]))
"""


def test_a_plugin_adds_a_reader(tmp_path):
    (tmp_path / "last_word.py").write_text(PLUGIN)
    information = tmp_path / "last_word-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: last-word\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[ragkit.plugins]\nreader = last_word\nbroken = no_such_module\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{USE}"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    text, listed, warned = json.loads(done.stdout)
    assert (text, listed) == ("red", True)
    assert len(warned) == 1
    assert "'broken' (no_such_module) was skipped" in warned[0]


def test_a_reader_is_an_abstract_class():
    with pytest.raises(TypeError, match="abstract"):
        AnswerReader()


def test_a_pattern_with_exponential_time_is_stopped():
    found = load_reader("regex:^(a|aa)+$").read("a" * 200 + "!")
    assert (found.readable, found.text) == (False, "a" * 200 + "!")
    assert "longer than" in found.why


@pytest.mark.parametrize("spec", ["label", "choice", "number", "json:a", "regex:x", "after:a"])
def test_completions_beyond_the_limit_are_not_read(spec):
    reader = load_reader(spec, labels=["x"])
    longest = "x" * reader.longest
    assert "longer than" in reader.read(longest + "x").why
    assert "longer than" not in reader.read(longest).why
    assert load_reader("first-line").read(longest + "x").readable
