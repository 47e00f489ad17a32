import pytest

from ragkit import Example, FewShot, JaccardSelector, ScriptedModel, Task
from ragkit.errors import InvalidInputError, PromptTooLongError, TruncationWarning, UnknownSpecError
from ragkit.models import load_model
from ragkit.protocols import Capabilities
from ragkit.templates import Template
from ragkit_pipelines.voting import Voting

POOL = [Example("red apple pie", "A"), Example("red apple", "B"), Example("blue sky", "C")]


class Narrow(ScriptedModel):
    capabilities = Capabilities(window=120)

    def count_tokens(self, text):
        return len(text.split())


def test_the_most_similar_example_comes_last():
    model = ScriptedModel([" B\n\nInput: more"])
    answer = FewShot(model, JaccardSelector(POOL), k=2).invoke("red apple")
    assert model.asked == [
        "Input: red apple pie\nOutput: A\n\nInput: red apple\nOutput: B\n\nInput: red apple\nOutput:"
    ]
    assert answer.text == "B"
    assert [hit.id for hit in answer.selection.hits] == ["1", "0"]


def test_similar_first_and_the_tasks_instruction():
    model = ScriptedModel([" B"])
    task = Task("Do it.", POOL, POOL)
    pipeline = FewShot.from_task(task, model, JaccardSelector(POOL), k=2)
    pipeline.order = "similar_first"
    pipeline.invoke("red apple")
    assert model.asked[0].startswith("Do it.\n\nInput: red apple\nOutput: B\n\nInput: red apple pie")


def test_an_example_that_exceeds_the_window_is_dropped_with_the_reason():
    pool = [Example("red " + "long " * 200, "A"), Example("red apple", "B")]
    model = Narrow([" B"])
    with pytest.warns(TruncationWarning, match="1 of 2 examples"):
        answer = FewShot(model, JaccardSelector(pool), k=2).invoke("red long")
    assert [example.output for example in answer.selection] == ["B"]
    assert answer.selection.dropped[0][0] == "0"
    assert "window of 120" in answer.selection.dropped[0][1]
    assert "long long" not in model.asked[0]


@pytest.mark.filterwarnings("ignore::ragkit.errors.TruncationWarning")
def test_examples_that_fill_the_window_exactly_are_kept():
    model = Narrow([" B"] * 2)
    query, output = "red", 16
    bare = model.count_tokens(Template().prompt([], query).text) + output + 8  # what a model adds around a prompt
    room = model.capabilities.window - bare
    for more, shown in ((0, 1), (1, 0)):
        words = room + more - model.count_tokens(Template().render_example(Example("red", "B")))
        example = Example("red" + " long" * words, "B")
        assert model.count_tokens(Template().render_example(example)) == room + more
        assert len(FewShot(model, JaccardSelector([example]), k=1, max_tokens=output).invoke(query).selection) == shown


def test_a_query_longer_than_the_window_is_an_error():
    with pytest.raises(PromptTooLongError, match="shorten the query"):
        FewShot(Narrow([]), None).invoke("word " * 100)


def test_text_of_examples_is_never_a_template():
    pool = [Example("{input} {0} {{x}}", "{output}")]
    model = ScriptedModel([""])
    FewShot(model, JaccardSelector(pool), k=1).invoke("{secret} {input}")
    assert model.asked == ["Input: {input} {0} {{x}}\nOutput: {output}\n\nInput: {secret} {input}\nOutput:"]


def test_the_tokens_of_an_example_in_several_prompts_are_counted_once():
    measured = []

    class Measured(ScriptedModel):
        def count_tokens(self, text):
            measured.append(text)
            return len(text.split())

    queries = ["red apple", "a red apple", "apple"]
    answers = FewShot(Measured(lambda _: " A"), JaccardSelector(POOL), k=3).invoke(queries)
    rows = [f"Input: {row.input}\nOutput: {row.output}\n\n" for row in POOL]
    assert sorted(text for text in measured if text in rows) == sorted(rows)
    assert [answer.selection.tokens for answer in answers] == [sum(len(row.split()) for row in rows)] * 3


LABELS = ("A", "B", "B plus")


@pytest.mark.parametrize("query", ["red", "dim the lamp", "???"])
def test_generation_is_constrained_to_the_labels(tiny, query):
    answer = FewShot(tiny, JaccardSelector(POOL), k=2, template=Template(labels=LABELS), max_tokens=1).invoke(query)
    assert answer.text in LABELS
    assert answer.readable
    assert answer.prompt.text.startswith("Answer with one of: A, B, B plus.\n\n")


def test_the_constrained_answer_is_the_most_probable_path(tiny):
    """Beside greedy decoding by hand: at each token the most probable one among those that lead to a label."""
    pipeline = FewShot(tiny, JaccardSelector(POOL), k=2, template=Template(labels=LABELS))
    prompt = pipeline.prompts(["red sky"])[0][0]
    paths = [tiny.encode_text(f" {label}\n\n") for label in LABELS]
    written: list[int] = []
    while written not in paths:
        options = sorted({path[len(written)] for path in paths if path[: len(written)] == written})
        text = [tiny.tokenizer.decode([*written, token]) for token in options]
        scores = tiny.score([prompt], text)[0]
        assert all(tiny.encode_text(each) == [*written, token] for each, token in zip(text, options, strict=True))
        written.append(options[int(scores.argmax())])
    assert pipeline.invoke("red sky").text == LABELS[paths.index(written)]


@pytest.mark.parametrize(
    ("said", "text", "readable"),
    [
        (" B", "B", True),
        (" The answer is B.", "B", True),
        (" b plus", "B plus", True),
        (" I would say A or B", "I would say A or B", False),
        (" nothing of that", "nothing of that", False),
    ],
)
def test_a_label_is_read_from_free_text(said, text, readable):
    answer = FewShot(ScriptedModel([said]), None, template=Template(labels=LABELS)).invoke("red")
    assert (answer.text, answer.readable, answer.completion.text) == (text, readable, said)


def test_a_task_determines_its_reader():
    task = Task("Add.", [Example("1+1", "2")], [Example("2+2", "4")], reader="number")
    answer = FewShot.from_task(task, ScriptedModel([" That makes $4.00, or 4"]), None).invoke("2+2")
    assert (answer.text, answer.readable) == ("4", True)
    with pytest.raises(UnknownSpecError):
        Task("Add.", [Example("1+1", "2")], [], reader="nombre")


def test_labels_that_share_a_prefix_or_differ_by_case_are_distinguished(tiny):
    labels = ("card", "Card", "card arrival", "card arrival late")
    pool = [Example(f"row {place}", label) for place, label in enumerate(labels)]
    task = Task("Sort.", pool, pool, metric="exact_match", labels=labels)
    for label in labels:
        scripted = FewShot.from_task(task, ScriptedModel([f" {label}"]), None).invoke("x")
        assert (scripted.text, scripted.readable) == (label, True)
    real = FewShot.from_task(task, tiny, JaccardSelector(pool), k=4).batch([row.input for row in pool])
    assert {answer.text for answer in real} <= set(labels)
    assert all(answer.readable for answer in real)


def test_five_thousand_labels_constrain_without_being_listed(tiny):
    labels = tuple(f"team {number}" for number in range(5000))
    answer = FewShot(tiny, None, template=Template(labels=labels)).invoke("who?")
    assert answer.text in labels
    assert "one of" not in answer.prompt.text


def test_the_error_for_a_long_prompt_names_the_cause(tiny):
    long = "word " * 3000
    with pytest.raises(PromptTooLongError, match="instruction"):
        FewShot(tiny, None, template=Template(instruction=long)).invoke("x")
    with pytest.raises(PromptTooLongError, match="label"):
        FewShot(tiny, None, template=Template(labels=("short", long.strip()))).invoke("x")


def test_examples_without_an_output():
    model = ScriptedModel([" x"])
    answer = FewShot(model, JaccardSelector([Example("red", "")]), k=1).invoke("red")
    assert model.asked == ["Input: red\nOutput: \n\nInput: red\nOutput:"]
    assert [turn.content for turn in answer.prompt.chat.messages] == ["red", "", "red"]


class Sampled(ScriptedModel):
    """Records the settings of each call."""

    def __init__(self, answers, *, seed=True) -> None:
        super().__init__(answers)
        self.settings, self.seeded = [], seed

    @property
    def capabilities(self):
        return Capabilities(seed=self.seeded)

    def _complete(self, prompts, sampling):
        self.settings.append((sampling.temperature, sampling.seed))
        return super()._complete(prompts, sampling)


def sampled(answers, *, seed=0, **options):
    model = Sampled(answers, **options)
    return model, FewShot(model, None, samples=len(answers), temperature=0.5, seed=seed).invoke("red apple")


@pytest.mark.parametrize(
    ("answers", "text", "agreement"),
    [
        ([" B", " A", " A"], "A", 2 / 3),
        ([" B", " A", " C", " A", " B"], "B", 2 / 5),  # a tie: B was sampled first
        ([" C", " A", " B"], "C", 1 / 3),
    ],
)
def test_the_most_frequent_of_the_samples_is_the_answer(answers, text, agreement):
    model, answer = sampled(answers)
    assert (answer.text, answer.agreement) == (text, agreement)
    assert [each.text for each in answer.completions] == answers
    assert answer.completion == answer.completions[answers.index(f" {text}")]
    assert [temperature for temperature, _ in model.settings] == [0.5] * len(answers)
    assert len({seed for _, seed in model.settings}) == len(answers)


def test_unreadable_samples_do_not_vote():
    template = Template(labels=("A", "B"))
    model = ScriptedModel([" what?", " what?", " B"])
    model.__class__ = type("Free", (ScriptedModel,), {"capabilities": Capabilities()})
    answer = FewShot(model, None, template=template, samples=3).invoke("red apple")
    assert (answer.text, answer.readable, answer.agreement) == ("B", True, 1 / 3)


def test_more_samples_begin_with_the_same_ones():
    (three, _), (five, _), (other, _) = sampled([" A"] * 3), sampled([" A"] * 5), sampled([" A"] * 3, seed=1)
    assert five.settings[:3] == three.settings
    assert not {seed for _, seed in three.settings} & {seed for _, seed in other.settings}


def test_samples_of_a_model_without_a_seed_are_different_calls(tmp_path):
    model = Sampled([" A", " B", " B"], seed=False)
    cached = load_model(model, cache=tmp_path / "answers.sqlite")
    for _ in range(2):
        assert FewShot(cached, None, samples=3).invoke("red apple").text == "B"
    assert len(model.asked) == 3
    assert [round(temperature, 4) for temperature, _ in model.settings] == [0.7] * 3


def test_one_sample_is_greedy():
    model = Sampled([" A"])
    answer = FewShot(model, None, seed=3).invoke("red apple")
    assert model.settings == [(0.0, 0)]
    assert (answer.completions, answer.agreement) == ((answer.completion,), 1.0)


@pytest.mark.parametrize("wrong", [{"samples": 0}, {"samples": 2.0}, {"temperature": 0}, {"temperature": 11}])
def test_invalid_samples_are_refused(wrong):
    with pytest.raises(InvalidInputError, match=f"`{next(iter(wrong))}` must be"):
        FewShot(ScriptedModel([]), None, **wrong)


@pytest.mark.parametrize("temperature", [1e-6, 0.7, 1.0, 2.0])
def test_samples_of_a_model_without_seeds_differ_and_keep_a_valid_temperature(temperature: float):
    draws = Voting(samples=5, temperature=temperature).draws(seeded=False)
    assert len(set(draws)) == 5
    limit = 1 if temperature <= 1 else 2  # of the APIs
    assert all(0 < each <= limit and abs(each - temperature) < 1e-5 for each, _ in draws)
