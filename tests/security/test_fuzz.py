"""Every reader of a user's or a model's text gives a value or one of ragkit's errors, whatever it is given."""

import json
import re
import shutil
import sqlite3
import warnings
from functools import partial

import pytest
from hostile import anything, hostile, hostile_bytes, other_json
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from ragkit import Completion, ScriptedModel, Task, Template, load_documents
from ragkit._files import with_checksum
from ragkit._task_files import read_objects
from ragkit.answers import read_option
from ragkit.embedders import load_embedder
from ragkit.errors import ModelError, RagkitError, UnreadFileWarning
from ragkit.finetuning._manifest import Manifest, TemplateRecord
from ragkit.index._document_inputs import read_documents
from ragkit.ingest import MarkdownChunker
from ragkit.models import AnswerCache, load_model
from ragkit.models._provider_choices import choice_in
from ragkit.models._replay import ReplayModel
from ragkit.models._response_cache import _checksum, key_of
from ragkit.models._sampling import _parsed
from ragkit.records import Document, Example
from ragkit.where import matches, parse_where
from ragkit_pipelines.cli.common import read_filter
from ragkit_pipelines.cli.documents import read_rows
from ragkit_pipelines.compare.predictions import Items
from ragkit_pipelines.compare.results import Cell, Recommendation, Results, make_row, read_cell
from ragkit_pipelines.compare.strategies.named import load_strategy
from ragkit_pipelines.pearl.plan.library import ActionLibrary, read_demonstrations
from ragkit_pipelines.pearl.plan.plan import Plan
from ragkit_pipelines.pearl.router import Router
from ragkit_pipelines.pearl.run.trace import Trace
from ragkit_selectors import BaseSelector
from ragkit_selectors.loading import load_selector, load_stage

fuzz = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


def read(reader, *given):
    """What a reader gives; None where it refuses in a proper way. Any other exception is a failure."""
    try:
        return reader(*given)
    except RagkitError:
        return None


# -- filters and documents ---------------------------------------------------------------------------------------------

FIELDS = st.sampled_from(
    ["a", "$eq", "$in", "$and", "$or", "$not", "$gt", "$exists", "$nin", "$lte", "$", "", "\ud800"]
)
conditions = st.recursive(
    anything,
    lambda inner: st.dictionaries(FIELDS, inner, max_size=3) | st.lists(inner, max_size=3),
    max_leaves=12,
)


@fuzz
@given(conditions, anything)
def test_filters(condition, value):
    parsed = read(parse_where, condition)
    if parsed is not None:
        assert matches(parsed, {"a": value, "": value}) in {True, False}


@fuzz
@given(hostile('{"a": {"$gte": 2020}, "$or": [{"b": "x"}, {"c": {"$in": [1, null]}}]}'))
@example("[" * 5000)
@example('{"a": ' + "1" * 5000 + "}")
def test_filters_of_the_command_line(text):
    read(lambda: parse_where(read_filter(text)))


@fuzz
@given(st.lists(anything | st.builds(Document, anything, id=anything, metadata=anything), max_size=3))
def test_documents(documents):
    read(read_documents, documents, 0)


# -- files of JSON lines -----------------------------------------------------------------------------------------------

TASK = '{"input": "dim it", "output": "dim", "split": "train"}\n{"input": {"q": "x"}, "output": "y", "split": "test"}\n'
DOCUMENTS = '{"text": "some text", "id": 7, "lang": "en"}\n{"text": "more", "id": "x", "tags": ["a", 1.5]}\n'


@fuzz
@given(content=hostile_bytes(TASK))
def test_tasks(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "task.jsonl"
    path.write_bytes(content)
    task = read(Task.from_jsonl, path)
    if task is not None:
        assert len(task.fingerprint) == 16
        task.leaks()


@fuzz
@given(content=hostile_bytes(DOCUMENTS))
@example(content=b"[" * 5000)
@example(content=b'{"text": ' + b"1" * 5000 + b"}")
@example(content=b"\x80")
def test_files_of_documents(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "documents.jsonl"
    path.write_bytes(content)
    read(lambda: read_documents(list(read_rows(path, "text")), 0))
    read(read_objects, path)


# -- files of documents ------------------------------------------------------------------------------------------------

PAGE = '<?xml version="1.0" encoding="gbk"?><meta http-equiv="content-type" content="text/html; charset=gbk"><p>a_b</p>'
TABLE = 'sep=;\ntext;lang;source\n"a; ""b""\\"";\r\nc";\'en\';x\n\rb|,\t;de;\u0301\n'
NOTES = "---\r\ntitle: x\r\n---\r\n\r\n# नि\r\r红色。灯e\u0301 👩\u200d👧🇩🇪\u2028x\nT\n==\n\n```\n# c\n"
ROWS = '{"_id": "d1", "id": null, "text": "x", "source": "y", "row": 1, "start_": [2]}\n{"id": "d1", "text": "z"}\n'


@settings(fuzz, max_examples=300)
@given(
    draw=st.data(),
    suffix=st.sampled_from([".html", ".csv", ".tsv", ".md", ".jsonl", ".xml"]),
    encoding=st.sampled_from(["utf-8", "utf-16", "gb18030", "shift_jis", "cp1252", "iso2022_jp"]),
)
def test_files(tmp_path_factory, draw, suffix, encoding):
    folder = tmp_path_factory.getbasetemp() / "files"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    content = draw.draw(hostile(PAGE, TABLE, NOTES, ROWS).map(lambda text: text.encode(encoding, "ignore")))
    content = draw.draw(st.just(content) | hostile_bytes(PAGE, TABLE, NOTES, ROWS))
    (folder / f"a{suffix}").write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnreadFileWarning)
        loaded = load_documents(folder)
    assert len({each.id for each in loaded}) == len(loaded)
    for document in loaded:
        start, pieces = document.metadata["start"], MarkdownChunker(9, 4).chunk(document)
        assert all(document.text[slice(*_span(piece, start))] == piece.text for piece in pieces)
    read(read_objects, folder / f"a{suffix}")
    read(Task.from_path, folder / f"a{suffix}")


def _span(piece, start):
    return piece.metadata["start"] - start, piece.metadata["end"] - start


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("recording") / "answers.jsonl"
    ReplayModel(path, record_from=ScriptedModel(lambda _: "a")).generate(["one", "two"], stop=["x"], choices=["a", "b"])
    return path.read_text()


@fuzz
@given(draw=st.data())
def test_replay_files(tmp_path_factory, recording, draw):
    path = tmp_path_factory.getbasetemp() / "replay.jsonl"
    first = recording.splitlines()[0]
    path.write_bytes(draw.draw(hostile_bytes(recording) | other_json(first).map(str.encode)))
    model = read(ReplayModel, path)
    if model is not None:
        assert model.fingerprint
        read(partial(model.generate, stop=["x"], choices=["a", "b"]), "one")


class Answer(BaseModel):
    answer: str


# -- specs -------------------------------------------------------------------------------------------------------------

PLACES = ["hash:384", "minilm", "st:nowhere/at-all", "langchain:x", "hash:", "hash:-1", "hash:" + "1" * 5000]
MODELS = [
    "replay:nowhere",
    "replay:",
    "hf:",
    "hf:./nowhere",
    "openai:gpt-4o-mini",
    "openai:",
    "minilm",
    "replay:/",
    "hf:/",
]
SELECTORS = [
    "bm25 | guard | label-nearest",
    "jaccard | mmr:0.7 | order:similar_last",
    "random|min-score:0.2|token-limit:9",
]


@fuzz
@given(hostile(*PLACES))
@example("hash:" + "1" * 5000)
def test_specs_of_embedders(spec):
    loaded = read(load_embedder, spec)
    if loaded is not None:
        assert loaded.name


@settings(fuzz, max_examples=60)
@given(hostile(*MODELS).filter(lambda spec: not spec.startswith("tiny")))
@example("hf:nobody/nothing")
@example("hf:\0")
@example("hf:" + "a" * 5000)
@example("replay:\0")
@example("replay:" + "a" * 5000)
@example("st:\0")
def test_specs_of_models(spec):
    loaded = read(load_model, spec)
    if loaded is not None:
        assert loaded.name


POOL = [Example(f"dim lamp {n}", "dim" if n % 2 else "lit", id=str(n)) for n in range(6)]


@fuzz
@given(hostile(*SELECTORS))
def test_specs_of_selectors_stages_and_strategies(spec):
    selector = read(partial(load_selector, embedder="hash:8"), spec, POOL)
    if selector is not None:
        read(selector.select, "dim the lamp", 2)
    read(load_stage, spec)
    read(load_strategy, spec)
    read(load_strategy, f"vote:{spec}")


# -- plans and what else a model may write -----------------------------------------------------------------------------

ACTIONS = "PICK(CTX, LIST) # Pick one.\nFIND(CTX, X) # Find X.\n"
ACTIONS += "LINK(CTX, X, Y) # Link X and Y.\nCONCAT(S1, S2, ...) # Join texts.\n"
LIBRARY = ActionLibrary.from_text(ACTIONS)
PLAN = (
    'New actions:\n- None\n\n1. ship = FIND(CTX, "the ship") : Find it\n'
    '2. both = PICK(CTX, [ship, "b"]) : Pick\n3. ans = CONCAT(ship, both, FIND(CTX, "x")) : Join'
)
PLAN_JSON = Plan.parse(PLAN, LIBRARY, repair=True).to_json()
LIBRARY_JSON = LIBRARY.to_json()
DEMONSTRATIONS = f"Question: what ship?\n{PLAN}\n\nQuestion: what crew?\nMy answer: {PLAN}"


@fuzz
@given(hostile(PLAN), st.booleans())
def test_plans(text, repair):
    plan = read(partial(Plan.parse, repair=repair), text, LIBRARY)
    if plan is not None:
        assert Plan.parse(plan.render(), LIBRARY).steps == plan.steps
        assert Plan.from_json(plan.to_json()).steps == plan.steps
        plan.mermaid()


@fuzz
@given(hostile(ACTIONS))
def test_libraries(text):
    library = read(ActionLibrary.from_text, text)
    if library is not None:
        assert ActionLibrary.from_text(library.to_text()).actions == library.actions


@fuzz
@given(
    hostile(PLAN_JSON) | other_json(PLAN_JSON),
    hostile(LIBRARY_JSON) | other_json(LIBRARY_JSON),
    hostile(DEMONSTRATIONS),
)
def test_plans_and_libraries_as_json_and_demonstrations(plan, library, demonstrations):
    found = read(Plan.from_json, plan)
    if found is not None:
        found.render()
        assert len(found.depths) == len(found.steps)
    read(ActionLibrary.from_json, library)
    read(read_demonstrations, demonstrations, LIBRARY)


@fuzz
@given(hostile("The answer is (B).", "A", "**B**"), st.lists(st.text(max_size=9), min_size=1, max_size=5))
def test_options_in_answers(answer, options):
    choice = read(read_option, answer, options)
    if choice is not None:
        assert choice.letter is None or choice.letter in "ABCDE"


CHOICES = ("dim", "lit")


@fuzz
@given(hostile('{"answer": "dim"}', "dim") | other_json('{"answer": "dim"}'))
@example("[" * 5000)
@example("1" * 5000)
def test_answers_that_were_to_follow_a_schema(text):
    answer = Completion(text=text)
    for schema in (Answer, {"type": "object"}):
        parsed = _parsed(answer, schema, "a model")
        assert isinstance(parsed, ModelError) or parsed.text == text
    chosen = read(choice_in, answer, CHOICES, "a model")
    assert chosen is None or chosen.text in CHOICES


# -- files that ragkit wrote and others may have changed ---------------------------------------------------------------


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    from ragkit_pipelines.pearl.run.events import DocumentSeen

    path = tmp_path_factory.mktemp("trace") / "trace.jsonl"
    with Trace(path) as written:
        written.write(DocumentSeen(hash="abc", text="some text"))
    return path.read_text()


def sealed_anew(line):
    text = re.sub(',"checksum":"[^"]*"}$', "}", line.decode("utf-8", "replace"))
    return with_checksum(text).encode() if text.endswith("}") else line


@fuzz
@given(draw=st.data())
def test_traces(tmp_path_factory, trace, draw):
    path = tmp_path_factory.getbasetemp() / "trace.jsonl"
    content = draw.draw(hostile_bytes(trace))
    if draw.draw(st.booleans()):  # with the right checksums, as whoever writes it on purpose would
        lines = [sealed_anew(line) for line in content.split(b"\n")]
        content = b"\n".join(lines)
    path.write_bytes(content)
    opened = read(Trace, path)
    if opened is not None:
        read(lambda: opened.last_run)
        opened.close()


ROW = make_row(
    strategy="s", model=None, size=1, seed=0, n=1, correct=1.0, prompt_tokens=1, completion_tokens=1, seconds=0.1,
    fit_seconds=0.1, cost=None,
)  # fmt: skip
CELL = Cell(key="k", row=ROW, answers=["a"], scores=[1.0]).model_dump_json()
ROUTER = '{"weights": {"words": 0.5}, "bias": 0.1, "threshold": 0.5, "reads_plan": false}'


@fuzz
@given(
    cell=hostile_bytes(CELL) | other_json(CELL).map(str.encode),
    router=hostile_bytes(ROUTER) | other_json(ROUTER).map(str.encode),
)
def test_cells_of_comparisons_and_routers(tmp_path_factory, cell, router):
    folder = tmp_path_factory.getbasetemp()
    (folder / "cell.json").write_bytes(cell)
    assert read(read_cell, folder / "cell.json", "k") is None  # it has no checksum
    (folder / "cell.json").write_bytes(sealed_anew(cell))
    found = read(read_cell, folder / "cell.json", "k")
    assert found is None or isinstance(found, Cell)
    (folder / "router.json").write_bytes(router)
    loaded = read(Router.load, folder / "router.json")
    if loaded is not None:
        read(loaded.route, "what ship?")


RESULTS = Results(
    task="t", leaked_test_rows=0, rows=[ROW], pairs=[], differences=[],
    recommendation=Recommendation(strategy="s", evidence="e"),
).model_dump_json()  # fmt: skip
ITEMS = Items(inputs=["i"], expected=["o"], answers=[]).model_dump_json()


@fuzz
@given(
    results=hostile_bytes(RESULTS) | other_json(RESULTS).map(str.encode),
    items=hostile_bytes(ITEMS) | other_json(ITEMS).map(str.encode),
)
@example(results=b"\x80", items=b"\x80")
@example(results=b"[" * 5000, items=b"[" * 5000)
def test_results_and_items_of_comparisons(tmp_path_factory, results, items):
    folder = tmp_path_factory.getbasetemp()
    (folder / "results.json").write_bytes(results)
    (folder / "items.json").write_bytes(items)
    read(Results.load, folder)
    read(Items.load, folder)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("manifest")
    Manifest(
        kind="classifier", form="head", method="classifier-head", run="r", base="hash:8", base_fingerprint="hash:8:v1",
        weights="w", data="d", ask_with=TemplateRecord.of(Template()), labels=("a", "b"), seed=0, epochs=1.0,
        learning_rate=0.1, rows={"kept": 1}, tokens=1, seconds=1.0, loss=0.1, versions={},
    ).write(folder)  # fmt: skip
    assert read(load_model, f"hf:{folder}") is None  # there is no head, but the manifest is read
    return (folder / "ragkit.json").read_text()


@fuzz
@given(draw=st.data())
def test_manifests_of_fine_tuning(tmp_path_factory, manifest, draw):
    folder = tmp_path_factory.getbasetemp() / "tuned"
    folder.mkdir(exist_ok=True)
    (folder / "ragkit.json").write_bytes(draw.draw(hostile_bytes(manifest) | other_json(manifest).map(str.encode)))
    if read(Manifest.read, folder) is not None:
        read(load_model, f"hf:{folder}")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("selector")
    (load_selector("embedding | guard", POOL, embedder="hash:8")).save(folder)
    return folder


@settings(fuzz, max_examples=100)
@given(draw=st.data())
def test_saved_selectors(saved, draw):
    path = draw.draw(st.sampled_from(sorted(saved.iterdir())))
    whole = path.read_bytes()
    made = hostile_bytes(whole.decode("utf-8", "replace"))
    if path.suffix == ".json":
        made |= other_json(whole.decode()).map(str.encode)
    path.write_bytes(draw.draw(made))
    try:
        read(BaseSelector.load, saved)
    finally:
        path.write_bytes(whole)


ANSWER = json.dumps({"text": "a", "usage": {"prompt_tokens": 1}, "cost": 0.1, "parsed": None})


@settings(fuzz, max_examples=40)
@given(content=hostile_bytes("SQLite format 3\0"), answer=hostile(ANSWER) | other_json(ANSWER))
@example(content=b"", answer="{}")
@example(content=b"", answer='{"text": "a"}')
@example(content=b"", answer="[" * 5000)
def test_caches_of_answers(tmp_path_factory, content, answer):
    folder = tmp_path_factory.mktemp("caches")
    (folder / "damaged.sqlite").write_bytes(content)
    cache = read(AnswerCache, folder / "damaged.sqlite")
    if cache is not None:
        read(cache.put, b"k", Completion(text="a"))
        cache.close()
    key = key_of("model", "prompt", {})
    cache = AnswerCache(folder / "changed.sqlite")
    text = answer.encode("utf-8", "replace").decode()
    with sqlite3.connect(folder / "changed.sqlite") as file:
        file.execute("INSERT INTO answers VALUES (?, ?, ?)", (key, text, _checksum(key, text)))
    file.close()
    found = read(cache.get, key)
    assert found is None or isinstance(found, Completion)
    cache.close()
