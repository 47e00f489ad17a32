import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit import ScriptedModel, finetune
from ragkit.errors import EmptyPoolError, InvalidInputError
from ragkit.finetuning import memorisation
from ragkit.finetuning._memorization import longest_runs

SENTENCES = st.lists(st.sampled_from("abc"), max_size=8)


@given(st.lists(SENTENCES, max_size=4), st.lists(SENTENCES, max_size=4))
def test_longest_runs_are_those_of_brute_force(texts, outputs):
    def inside(run, output):
        return any(output[at : at + len(run)] == run for at in range(len(output) - len(run) + 1))

    def longest(text):
        runs = [text[a:b] for a in range(len(text)) for b in range(a + 1, len(text) + 1)]
        return max((len(run) for run in runs if any(inside(run, output) for output in outputs)), default=0)

    assert longest_runs(texts, outputs) == [longest(text) for text in texts]


def test_a_text_counts_from_a_number_of_words_or_whole():
    said = {
        "one two": " three four five six",
        "alpha  beta": " gamma delta",
        "red green": " blue\nyellow violet",
    }
    model = ScriptedModel(said)
    texts = ["one two three four", "alpha  beta gamma zeta", "red green yellow blue"]
    found = memorisation(model, texts, length=3)
    assert model.asked == list(said)  # openings, with the white space that was between the words
    assert (found.longest, found.words) == ((2, 1, 1), (2, 2, 2))
    assert found.reproduced == (0,)
    assert found.share == pytest.approx(1 / 3)
    assert memorisation(model, texts, length=1).share == 1


def test_characters_count_in_scripts_without_spaces():
    model = ScriptedModel({"红色的灯": "在船里", "ผู้ใ": "หญ่"})
    found = memorisation(model, ["红色的灯在船上", "ผู้ใหญ่"], length=2)
    assert model.asked == ["红色的灯", "ผู้ใ"]
    assert (found.longest, found.words) == ((2, 2), (3, 2))


def test_a_tuned_model_gives_back_what_it_read_and_not_what_it_did_not(tmp_path, tiny):
    words = ["lamp", "fan", "song", "door", "dim", "light", "open", "play", "red", "blue"]
    texts = [" ".join(words[(3 * n + k * (n + 1)) % 10] for k in range(12)) for n in range(3)]
    tuned = finetune(
        "tiny", texts[:2], method="full", objective="text", epochs=30, learning_rate=5e-3, output_dir=tmp_path
    )
    settings = {"length": 5, "max_tokens": 24}
    assert memorisation(tuned.model, texts[:2], **settings).share == 1
    assert memorisation(tuned.model, texts[2:], **settings).share == 0
    assert memorisation(tiny, texts, **settings).share == 0
    sampled = memorisation(tuned.model, texts[:2], samples=2, temperature=0.3, **settings)
    assert sampled.outputs == 4
    assert sampled == memorisation(tuned.model, texts[:2], samples=2, temperature=0.3, **settings)


@pytest.mark.parametrize(
    ("texts", "arguments", "error", "message"),
    [
        ([], {}, EmptyPoolError, "empty pool"),
        (["word"], {}, InvalidInputError, r"`texts\[0\]` must have two words"),
        ("a text", {}, InvalidInputError, "must be a sequence"),
        (["a b"], {"samples": 2}, InvalidInputError, "give a `temperature`"),
        (["a b"], {"opening": 1}, InvalidInputError, "`opening`"),
        (["a b"], {"length": 0}, InvalidInputError, "at least 1"),
    ],
)
def test_arguments_that_make_no_sense(texts, arguments, error, message):
    with pytest.raises(error, match=message):
        memorisation(ScriptedModel([]), texts, **arguments)
