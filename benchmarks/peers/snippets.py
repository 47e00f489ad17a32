"""The programs that are compared: one function per program, with what a user would write to get the answers.

``run.py`` runs them and counts the lines of their bodies. Each one takes the same rows and returns one answer per test
row; an empty answer stands for one that the tool could not read.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

INSTRUCTION = "Classify the question by the kind of answer it asks for."


@dataclass(frozen=True)
class Rows:
    """The data, the same for each program, and where the models are.

    Attributes:
        train: Rows with ``input``, ``output`` and ``split``.
        test: The test rows, in the same form.
        labels: All outputs, sorted.
        k: Number of in-context examples.
        smollm2: Folder of SmolLM2, exported by ``ragkit export``.
        minilm: Folder of all-MiniLM-L6-v2.
        url: Address of the server, for programs that need one.
    """

    train: Sequence[dict[str, str]]
    test: Sequence[dict[str, str]]
    labels: Sequence[str]
    k: int
    smollm2: str
    minilm: str
    url: str = ""


def ragkit_score(rows: Rows) -> list[str]:
    from ragkit import Task, Template, compare, load_model

    template = Template(form="text")
    task = Task.from_rows([*rows.train, *rows.test], instruction=INSTRUCTION, template=template)
    model = load_model("smollm2", dtype="float32")
    result = compare(task, [f"score:fixed@{rows.k}"], model=model)
    return result.cells[0].answers


def lm_eval(rows: Rows) -> list[str]:
    from datasets import Dataset
    from lm_eval import simple_evaluate

    config = {
        "task": "trec6",
        "custom_dataset": lambda **_: {"test": Dataset.from_list(list(rows.test))},
        "test_split": "test",
        "output_type": "multiple_choice",
        "description": f"{INSTRUCTION} Answer with one of: {', '.join(rows.labels)}.\n\n",
        "doc_to_text": lambda row: f"Input: {row['input']}\nOutput:",
        "doc_to_choice": [f"{label}\n\n" for label in rows.labels],
        "doc_to_target": lambda row: rows.labels.index(row["output"]),
        "num_fewshot": rows.k,
        "fewshot_delimiter": "",
        "fewshot_config": {"sampler": "first_n", "samples": list(rows.train[: rows.k])[::-1]},
        "metric_list": [{"metric": "acc"}],
    }
    found = simple_evaluate(
        model="hf",
        model_args={"pretrained": rows.smollm2, "dtype": "float32"},
        tasks=[config],
        device="cpu",
        batch_size=16,
        log_samples=True,
    )
    answers = []
    for sample in sorted(found["samples"]["trec6"], key=lambda sample: sample["doc_id"]):
        likelihoods = [float(response[0]) for response in sample["filtered_resps"]]
        answers.append(rows.labels[likelihoods.index(max(likelihoods))])
    return answers


def ragkit_head(rows: Rows) -> list[str]:
    from ragkit import Task, compare

    task = Task.from_rows([*rows.train, *rows.test])
    result = compare(task, ["classifier-head"])
    return result.cells[0].answers


def ragkit_encoder(rows: Rows) -> list[str]:
    from ragkit import Task, compare

    task = Task.from_rows([*rows.train, *rows.test])
    result = compare(task, ["full"])
    return result.cells[0].answers


def ragkit_setfit(rows: Rows) -> list[str]:
    from ragkit import Task, compare

    task = Task.from_rows([*rows.train, *rows.test])
    result = compare(task, ["setfit"])
    return result.cells[0].answers


def setfit(rows: Rows) -> list[str]:
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    train = Dataset.from_list([{"text": row["input"], "label": row["output"]} for row in rows.train])
    model = SetFitModel.from_pretrained(rows.minilm, labels=list(rows.labels))
    arguments = TrainingArguments(output_dir=tempfile.mkdtemp(), report_to="none")
    trainer = Trainer(model=model, args=arguments, train_dataset=train)
    trainer.train()
    return list(model.predict([row["input"] for row in rows.test]))


def ragkit_fixed(rows: Rows) -> list[str]:
    from ragkit import Task, compare

    task = Task.from_rows([*rows.train, *rows.test], instruction=INSTRUCTION)
    result = compare(task, [f"few-shot:fixed@{rows.k}"], model="smollm2")
    return result.cells[0].answers


def ragkit_nearest(rows: Rows) -> list[str]:
    from ragkit import Task, compare

    task = Task.from_rows([*rows.train, *rows.test], instruction=INSTRUCTION)
    result = compare(task, [f"few-shot:embedding@{rows.k}"], model="smollm2")
    return result.cells[0].answers


def dspy_fixed(rows: Rows) -> list[str]:
    import dspy

    student, examples = _dspy_student(rows)
    program = dspy.LabeledFewShot(k=rows.k).compile(student, trainset=examples[: rows.k][::-1], sample=False)
    return _dspy_answers(program, rows)


def dspy_nearest(rows: Rows) -> list[str]:
    import dspy
    from sentence_transformers import SentenceTransformer

    student, examples = _dspy_student(rows)
    embedder = dspy.Embedder(SentenceTransformer(rows.minilm, device="cpu").encode)
    limits = {"max_bootstrapped_demos": 0, "max_labeled_demos": rows.k}
    program = dspy.KNNFewShot(rows.k, examples, embedder, **limits).compile(student)
    return _dspy_answers(program, rows)


def dspy_bootstrap(rows: Rows) -> list[str]:
    import dspy

    def right(example: Any, prediction: Any, _: Any = None) -> bool:
        return bool(example.answer == prediction.answer)

    student, examples = _dspy_student(rows)
    limits = {"max_bootstrapped_demos": rows.k, "max_labeled_demos": rows.k}
    program = dspy.BootstrapFewShot(metric=right, **limits).compile(student, trainset=examples)
    return _dspy_answers(program, rows)


def _dspy_student(rows: Rows) -> tuple[Any, list[Any]]:
    import dspy

    lm = dspy.LM("openai/smollm2", api_base=rows.url, api_key="none", temperature=0.0, max_tokens=48)
    dspy.configure(lm=lm)
    answer = f"Literal[{', '.join(map(repr, rows.labels))}]"
    student = dspy.Predict(dspy.Signature(f"question -> answer: {answer}", INSTRUCTION))
    examples = [dspy.Example(question=row["input"], answer=row["output"]) for row in rows.train]
    return student, [example.with_inputs("question") for example in examples]


def _dspy_answers(program: Any, rows: Rows) -> list[str]:
    import dspy

    queries = [dspy.Example(question=row["input"]).with_inputs("question") for row in rows.test]
    predictions = program.batch(queries, num_threads=8, max_errors=len(queries) + 1, timeout=0)
    return [prediction.answer if prediction else "" for prediction in predictions]
