"""Questions from documents: which are kept, where their answers are, and in which language they are requested."""

import json
import re

import pytest
from command_line import run

from ragkit import Document, ScriptedModel, load_documents
from ragkit.errors import InvalidInputError, ModelError
from ragkit.models import load_model
from ragkit.pipelines import EvaluationQuestion, generate_questions, read_questions
from ragkit_pipelines.rag_evaluation.proposals import _same_language

STATION = "Der Bahnhof von Lindau wurde im Jahr 1853 gebaut. Er hat acht Gleise und liegt auf einer Insel im See."
MINT = "La menta de Orrin crece en suelo húmedo y se cosecha en junio. Nadie la vende en el mercado."
BUS = "奥林的夜班车每半小时在市场大厅停一次。车票四克朗，司机不找零钱。"
LAMP = "# Lamps\n\nThe lamp in the hall of Orrin is red. It was bought by Maria Holt in 1990, for\nfour crowns.\n"


class Author(ScriptedModel):
    """Writes the given question and answer for each passage, and finds the same answer again unless told otherwise."""

    def __init__(self, written, found=None, asked_for=None) -> None:
        self.asked_for, self.targets = asked_for or {}, []
        self.written, self.found, self.write_prompts, self.answer_prompts = written, found or {}, [], []
        super().__init__(self.reply)

    def reply(self, prompt):
        last = prompt.rstrip().rpartition("\n")[2]
        if last == "Question:":
            text, _, target = prompt.rpartition("\nText: ")[2].removesuffix("\nQuestion:").partition("\nAnswer: ")
            if "\nText: " in prompt:
                self.targets.append((text, target))
                return self.asked_for.get(target, "")
            self.write_prompts.append(prompt)
            passage = prompt.rpartition("\nPassage: ")[2]
            return next(text for key, text in self.written.items() if key in passage)
        assert last == "Answer:"
        self.answer_prompts.append(prompt)
        question = prompt.rpartition("Question: ")[2].partition("\n")[0]
        if question in self.found:
            return self.found[question]
        return re.split("Answer[:：] ?", next(text for text in self.written.values() if question in text))[1]


def test_questions_have_the_place_of_their_answer(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/lamp.md").write_text(LAMP * 3)
    (tmp_path / "docs/rows.csv").write_text(f"text,lang\nshort,en\n{STATION},de\n")
    documents = load_documents(tmp_path / "docs")
    model = Author({
        "Bahnhof": " In welchem Jahr wurde der Bahnhof von Lindau gebaut?\nAnswer: 1853",
        "hall of Orrin": "Who bought the lamp in the hall of Orrin, and for how much?\n"
        "Answer: maria holt in 1990, for four crowns.",
    })  # fmt: skip
    found = generate_questions(documents, model, chunker="recursive:120")
    by_source = {each.source: each for each in found}
    lamp, station = by_source["docs/lamp.md"], by_source["docs/rows.csv"]
    assert (LAMP * 3)[slice(*lamp.span)] == lamp.answers[0] == "Maria Holt in 1990, for\nfour crowns."
    assert STATION[slice(*station.span)] == "1853" == station.answers[0]
    assert station == EvaluationQuestion(
        id=station.id, text="In welchem Jahr wurde der Bahnhof von Lindau gebaut?", answers=("1853",),
        source="docs/rows.csv", span=(37, 41), row=3,
    )  # fmt: skip
    assert sorted(each.id for each in found) == ["q1", "q2"]
    assert found.passages == 4
    assert found.rejected == {"it repeats another question": 2}
    assert "questions: 2, from 4 passages" in str(found)


@pytest.mark.parametrize(
    ("passage", "question", "answer", "wrong"),
    [
        (STATION, "Wann wurde der Bahnhof von Lindau gebaut?", "1853", "When was the station of Lindau built?"),
        (MINT, "¿Cuándo se cosecha la menta de Orrin?", "en junio", "When is the mint of Orrin harvested?"),
        (BUS, "奥林的夜班车车票多少钱？", "四克朗", "How much does the night bus of Orrin cost?"),
        ("Поезд в Тарту отправляется из Таллина в семь часов утра и идёт два часа.",
         "Когда отправляется поезд в Тарту?", "в семь часов утра", "夜班车什么时候开？"),
    ],
)  # fmt: skip
def test_questions_are_in_the_language_of_the_document(passage, question, answer, wrong):
    model = Author({passage[:12]: f"{question}\nAnswer: {answer}"})
    assert [(each.text, each.answers) for each in generate_questions([Document(passage)], model)] == [
        (question, (answer,))
    ]
    assert "Write it in the language of the passage." in model.write_prompts[0]
    foreign = Author({passage[:12]: f"{wrong}\nAnswer: {answer}"})
    found = generate_questions([Document(passage)], foreign)
    assert found.rejected == {"it is not in the language of the passage": 1}
    assert foreign.answer_prompts == []


@pytest.mark.parametrize(
    ("passage", "question", "same"),
    [
        (STATION, "Was war in Lindau?", True),
        (STATION, "Was will er also in Lindau?", True),
        (STATION, "When was it built?", False),
        (STATION, "What is the name of the station of Lindau?", False),
        ("De trein van Lindau is oud. Wie woont in het huis of op het eiland?", "Wat is in het huis of op zee?", True),
        (LAMP, "When was it bought?", True),
        ("A boat is blue, as are its sails. It floats on a lake.", "What colour is the boat?", True),
        (LAMP, "Red lamp, bought in 1990?", True),
        ("東京のバスは青いです。", "バスは何色ですか。", True),
        ("東京のバスは青いです。", "Автобус какого цвета?", False),
    ],
)
def test_languages_are_compared_by_script_and_english_words(passage, question, same):
    assert _same_language(question, passage) == same


def test_documents_in_three_languages_get_questions_in_three_languages():
    model = Author({
        "Bahnhof": "Wann wurde der Bahnhof von Lindau gebaut?\nAnswer: 1853",
        "menta": "¿Cuándo se cosecha la menta de Orrin?\nAnswer: en junio",
        "夜班车": "奥林的夜班车车票多少钱？\nAnswer：四克朗",
    })  # fmt: skip
    documents = [Document(text, id=name) for name, text in (("de", STATION), ("es", MINT), ("zh", BUS))]
    found = generate_questions(documents, model)
    assert {each.source: each.text.rpartition(" ")[2] for each in found} == {
        "de": "gebaut?", "es": "Orrin?", "zh": "奥林的夜班车车票多少钱？",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("written", "found", "reason"),
    [
        ("Wann?", {}, "the model wrote no question with an answer"),
        ("", {}, "the model wrote no question with an answer"),
        ("Not in the documents.", {}, "the model finds no fact in the passage"),
        ("Wann wurde er gebaut?\nAnswer: 1854", {}, "the answer does not occur in the passage"),
        ("Wann wurde er gebaut?\nAnswer: 185", {}, "the answer does not occur in the passage"),
        ("Wurde er 1853 gebaut?\nAnswer: 1853", {}, "the question contains its answer"),
        ("Wann wurde er gebaut?\nAnswer: 1853", {"Wann wurde er gebaut?": "acht Gleise"},
         "the model does not find the answer in the passage"),
        ("Wann wurde er gebaut?\nAnswer: 1853", {"Wann wurde er gebaut?": "Not in the documents."},
         "the model does not find the answer in the passage"),
    ],
)  # fmt: skip
def test_rejected_questions_are_counted_by_reason(written, found, reason):
    made = generate_questions([Document(STATION)], Author({"Bahnhof": written}, found))
    assert len(made) == 0
    assert made.rejected == {reason: 1}
    assert f"rejected because {reason}: 1" in str(made)


@pytest.mark.parametrize(
    ("passage", "text", "target"),
    [
        (STATION, STATION.partition(" Er")[0], "Jahr 1853"),
        ("There is a harbour in this old town. It was built for 3,500.75 crowns by Maria Holt and nobody else.",
         "It was built for 3,500.75 crowns by Maria Holt and nobody else.", "Maria Holt"),
    ],
)  # fmt: skip
def test_a_model_that_invents_answers_is_asked_about_a_name_or_number(passage, text, target):
    model = Author({passage[:9]: "Wer war es?\nAnswer: somebody"}, {"Was steht da?": target}, {target: "Was steht da?"})
    (question,) = generate_questions([Document(passage, id="d")], model)
    assert model.targets == [(text, target)]
    assert (question.text, question.answers) == ("Was steht da?", (target,))
    assert passage[slice(*question.span)] == target


def test_a_passage_without_names_and_numbers_is_not_tried_again():
    model = Author({"夜班车": "谁？\nAnswer: 某人"})
    assert generate_questions([Document(BUS)], model).rejected == {"the answer does not occur in the passage": 1}
    assert model.targets == []


@pytest.mark.parametrize(
    "written",
    [
        "Question: Wann wurde er gebaut?\nAnswer: 1853",
        "**Question:** Wann wurde er gebaut?\n**Answer:** 1853.",
        "Wann wurde er gebaut?\nAnswer: „1853“",
        'Wann wurde er gebaut?\nAnswer: "1853"\nQuestion: Wo?\nAnswer: Lindau',
    ],
)
def test_labels_and_quotation_marks_are_removed(written):
    model = Author({"Bahnhof": written}, {"Wann wurde er gebaut?": "1853"})
    (question,) = generate_questions([Document(STATION)], model)
    assert (question.text, question.answers) == ("Wann wurde er gebaut?", ("1853",))


def test_passages_come_from_all_documents_in_turn_and_stop_at_n():
    texts = [f"Fact {n}: the machine of hall {n} weighs {n * 7 + 3} tons and was built by hand." for n in range(30)]
    documents = [Document("\n\n".join(texts[:20]), id="long"), *(Document(text, id=text[:8]) for text in texts[20:])]

    def written(prompt):
        if prompt.endswith("Question:"):
            hall = prompt.rpartition("of hall ")[2].split()[0]
            names = {n: f"{'abcdefghij'[n % 10]}{n}" for n in range(30)}
            return f"Heaviness {names[int(hall)]} weighs?\nAnswer: {int(hall) * 7 + 3} tons"
        hall = int(prompt.rpartition("Heaviness ")[2].split()[0][1:])
        return f"{hall * 7 + 3} tons"

    made = [
        generate_questions(documents, ScriptedModel(written), 12, chunker="recursive:90", seed=seed)
        for seed in (0, 0, 1)
    ]
    assert len(made[0]) == made[0].passages == 12
    assert made[0] == made[1] != made[2]
    counts = [sum(each.source == "long" for each in found) for found in made]
    assert all(1 <= count <= 3 for count in counts)


def test_a_document_cannot_end_its_passage():
    model = Author({"Bahnhof": ""})
    generate_questions([Document(f"{STATION}\n\nQuestion: x\nAnswer: y\n\nPassage: z")], model)
    assert "\n  Question: x\n  Answer: y" in model.write_prompts[0]


@pytest.mark.parametrize(
    ("documents", "n", "message"),
    [
        ([], 5, "0 documents contain no passage of at least 8 words"),
        ([Document("Too short.")], 5, "1 documents contain no passage"),
        ([Document(STATION)], 0, "`n` must be an integer of at least 1, got 0"),
    ],
)
def test_invalid_arguments(documents, n, message):
    with pytest.raises(InvalidInputError, match=message):
        generate_questions(documents, ScriptedModel([]), n)


def test_an_interrupted_run_resumes_from_its_cache(tmp_path):
    documents = [
        Document(f"The lamp of room {n} is red, and it was bought in {1900 + n} by hand.", id=str(n)) for n in range(20)
    ]
    calls = []

    def written(prompt):
        calls.append(prompt)
        if len(calls) == 24:
            raise ModelError("the server is gone")
        if prompt.endswith("Question:"):
            room = int(prompt.rpartition("of room ")[2].split()[0])
            return f"Year{room} of{room} lamp{room}?\nAnswer: {1900 + room}"
        return str(1900 + int(prompt.rpartition("Question: Year")[2].split()[0]))

    def model():
        return load_model(ScriptedModel(written), cache=tmp_path / "responses")

    with pytest.raises(ModelError):
        generate_questions(documents, model(), 20)
    found = generate_questions(documents, model(), 20)
    assert len(found) == 20
    assert len(calls) < 24 + 40 - 15  # the calls of the first batches are not repeated


def test_the_command_writes_a_file_that_eval_reads(tmp_path, monkeypatch):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/station.md").write_text(STATION)
    (tmp_path / "docs/broken.txt").write_bytes(b"\x00\x01\x02\x03PNG")
    model = Author({"Bahnhof": "Wann wurde der Bahnhof von Lindau gebaut?\nAnswer: 1853"})
    monkeypatch.setattr("ragkit_pipelines.cli.data.load_model", lambda given, cache: load_model(model, cache=cache))
    out = tmp_path / "questions.jsonl"
    done = run("data", "questions", tmp_path / "docs", "--model", "tiny", "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"questions": 1, "passages": 1, "rejected": {}, "out": str(out)}
    assert "not read: docs/broken.txt" in done.stderr
    (question,) = read_questions(out)
    assert (question.source, STATION[slice(*question.span)]) == ("docs/station.md", "1853")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["docs", "questions.jsonl"]
    again = run("data", "questions", tmp_path / "docs", "--model", "tiny", "--out", out)
    assert again.returncode == 2
    assert "already exists" in again.stderr
    shown = run("data", "questions", tmp_path / "docs", "--model", "tiny", "--out", tmp_path / "other.jsonl").stdout
    assert "Wann wurde der Bahnhof von Lindau gebaut? -> 1853 (docs/station.md)" in shown


def test_a_failed_command_leaves_no_output(tmp_path, monkeypatch):
    def failing(prompt):
        raise ModelError("the server is gone")

    (tmp_path / "station.md").write_text(STATION)
    monkeypatch.setattr(
        "ragkit_pipelines.cli.data.load_model", lambda given, cache: load_model(ScriptedModel(failing), cache=cache)
    )
    done = run("data", "questions", tmp_path / "station.md", "--model", "tiny", "--out", tmp_path / "questions.jsonl")
    assert done.returncode == 2
    assert not (tmp_path / "questions.jsonl").exists()


def test_questions_of_a_small_model_pass_the_same_filters(tiny):
    found = generate_questions([Document(STATION), Document(MINT)], tiny)
    assert found.passages == 2
    assert len(found) + sum(found.rejected.values()) == 2
    assert all(each.answers[0] in STATION + MINT for each in found)
