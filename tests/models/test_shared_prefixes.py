"""Prompts with a common prefix: found, ordered, and sent so that a provider can cache the prefix."""

from threading import Event

from ragkit import Example, ScriptedModel, Template
from ragkit.models import LayeredModel
from ragkit.models._shared_prefixes import leaders_first, prefix_key, shared_prefixes
from ragkit.records import Chat, Message

LONG = Template(instruction="Name the colour. " * 300)
SHORT = Template(instruction="Name the colour.")
BLUE, GREEN = [Example("sky", "blue")], [Example("grass", "green")]


def test_prefixes_are_everything_before_the_query():
    one, two, other = (LONG.prompt(shown, query) for shown, query in ((BLUE, "a"), (BLUE, "b"), (GREEN, "a")))
    assert prefix_key(one) == prefix_key(two) == prefix_key(one.chat)
    assert prefix_key(one) != prefix_key(other)
    moved = [Message("system", LONG.instruction + "a"), Message("user", "b"), Message("user", "q")]
    joined = [Message("system", LONG.instruction), Message("user", "ab"), Message("user", "q")]
    assert prefix_key(Chat(tuple(moved))) != prefix_key(Chat(tuple(joined)))
    assert prefix_key(SHORT.prompt(BLUE, "a")) is None
    assert prefix_key("x" * 9_000) is None
    assert prefix_key(Chat(())) is None


def test_only_prefixes_of_several_prompts_count():
    prompts = [LONG.prompt(BLUE, "a"), LONG.prompt(GREEN, "a"), LONG.prompt(BLUE, "b"), "x"]
    keys = shared_prefixes(prompts)
    assert [key is not None for key in keys] == [True, False, True, False]


def test_the_first_of_each_prefix_comes_before_the_others():
    assert leaders_first([b"a", b"b", None, b"b", b"a", b"a"]) == ([0, 1, 2], [4, 5, 3])
    assert leaders_first([]) == ([], [])


def test_requests_with_the_same_prefix_wait_for_the_first():
    others = Event()
    overlapped = []

    def answer(text):
        query = text.split()[-2]  # the query is followed by "Output:"
        if query == "first":
            overlapped.append(others.wait(0.2))
        else:
            others.set()
        return query

    queries = ["first", *(f"q{number}" for number in range(20))]
    prompts = [LONG.prompt(BLUE, query) for query in queries]
    answers = LayeredModel(ScriptedModel(answer), concurrency=8).generate(prompts)
    assert [each.text for each in answers] == queries
    assert overlapped == [False]
