"""Log-likelihoods of choices: all choices of a row on one prefill, equal to each choice run on its own."""

import numpy as np
import pytest
from random_llama import save_random_llama

from ragkit import Prompt, load_model
from ragkit.errors import PromptTooLongError, UnsupportedError
from ragkit.models import AnswerCache
from ragkit.models import _scoring as scoring
from ragkit.models._middleware import LayeredModel
from ragkit.models._tries import Trie

DOCUMENT = "lamp fan vent red blue one two three dim fade " * 12
PROMPTS = [
    Prompt(DOCUMENT, f"Input: {word}\nOutput:") for word in ("lamp", "the red fan", "é 🙂", "one two three four")
]
# A prefix of another, a common prefix, a single token, twice the same, nothing at all, and a long one.
CHOICES = [
    " fade", " fade lamp", " fade lamp vent", " fade vent", " red", " one two three", " fade lamp", "", "\n\nInput: x",
    " red blue red blue red one two three one two three lamp",
]  # fmt: skip
KINDS = [
    ("Llama", {}),
    ("Qwen3", {"head_dim": 16}),
    ("Gemma", {"head_dim": 16, "num_key_value_heads": 1}),
    ("Gemma2", {"head_dim": 16, "sliding_window": 8, "final_logit_softcapping": 5.0}),
    ("Gemma3", {"head_dim": 16, "sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]}),
    ("Mistral", {"sliding_window": 8}),
]


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    return save_random_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture
def llama(spec):
    return load_model(spec)


def by_hand(model, prompt, choice, end=()):
    """The sum over the tokens of a choice, by plain transformers."""
    import torch

    head, tail = model.encode_prompt(prompt), [*model.encode_text(choice), *end]
    with torch.inference_mode():
        logits = model.module(torch.tensor([head + tail])).logits[0].double().log_softmax(-1)
    return sum(float(logits[len(head) + place - 1, token]) for place, token in enumerate(tail))


def expected_of(model, prompts, choices, end=()):
    return [[by_hand(model, prompt, choice, end) for choice in choices] for prompt in prompts]


def uncached(model, prompts, choices):
    import torch

    rows, tails = list(map(model.encode_prompt, prompts)), list(map(model.encode_text, choices))
    with torch.inference_mode():
        return scoring.log_likelihoods_uncached(model.network, rows, tails, size=16)


def passes_of(model):
    """Of each forward pass of the model from now on: rows, tokens of each row, and how many of them have logits."""
    shapes = []

    def note(_module, _args, given, output):
        if "input_ids" in given:  # `by_hand` gives them without the name
            shapes.append((*given["input_ids"].shape, output.logits.shape[1]))

    model.module.register_forward_hook(note, with_kwargs=True)
    return shapes


def test_a_trie_finds_paths_and_sums_along_them():
    rng = np.random.default_rng(0)
    sequences = [rng.integers(0, 3, size=rng.integers(0, 6)).tolist() for _ in range(60)]
    trie = Trie.of(sequences)
    prefixes = {tuple(sequence[:end]) for sequence in sequences for end in range(1, len(sequence) + 1)}
    nodes = []  # the sequence that leads to each
    for token, parent in zip(trie.tokens.tolist(), trie.parents.tolist(), strict=True):
        nodes.append(((*nodes[parent],) if parent >= 0 else ()) + (token,))
    assert len(nodes) == len(set(nodes))
    assert set(nodes) == prefixes
    assert [len(node) - 1 for node in nodes] == trie.depths.tolist()
    assert {nodes[node] for node in trie.inner} == {prefix[:-1] for prefix in prefixes} - {()}
    everything = np.arange(len(nodes))
    assert trie.on_path(everything, everything).tolist() == [
        [node[: len(other)] == other for other in nodes] for node in nodes
    ]
    values = rng.normal(size=(2, len(nodes)))
    of = {node: values[:, place] for place, node in enumerate(nodes)}
    expected = [sum((of[tuple(each[: end + 1])] for end in range(len(each))), np.zeros(2)) for each in sequences]
    np.testing.assert_allclose(trie.sums(values), np.transpose(expected))


@pytest.mark.parametrize("kind", [kind for kind, _ in KINDS])
def test_scores_are_those_of_each_choice_alone(tmp_path, monkeypatch, kind):
    model = load_model(save_random_llama(tmp_path, kind=kind, **dict(KINDS)[kind]))
    prompts = [*PROMPTS, "Input: red\nOutput:", "", PROMPTS[0].text + " and more words, so that others are padded"]
    expected = expected_of(model, prompts, CHOICES)
    assert np.std(expected, axis=0)[:-3].min() > 0.1  # they do depend on the prompt
    assert model.network.takes_tree_masks
    np.testing.assert_allclose(model.score(prompts, CHOICES), expected, atol=1e-4)
    np.testing.assert_allclose(model.score(prompts[:1], CHOICES), expected[:1], atol=1e-4)
    np.testing.assert_allclose(uncached(model, prompts, CHOICES), expected, atol=1e-4)
    monkeypatch.setattr(scoring, "_MOST_NODES", 3)  # the tree in many parts, whose ancestors stay in the cache
    np.testing.assert_allclose(model.score(prompts, CHOICES), expected, atol=1e-4)
    monkeypatch.setattr(scoring, "_MOST_LOGITS", 1)
    np.testing.assert_allclose(model.score(prompts[-3:], CHOICES), expected[-3:], atol=1e-4)


def test_only_tokens_that_others_follow_are_run(llama):
    prompts = ["Input: dim the lamp\nOutput:", "Input: red\nOutput:"]
    lengths = [len(llama.encode_prompt(prompt)) for prompt in prompts]
    passes = passes_of(llama)
    llama.score(prompts, [" red", " fan", " lamp"])  # the last token of the prompt tells all
    assert passes == [(2, max(lengths), 1)]
    passes.clear()
    llama.score(prompts, [" red fan", " red lamp", " red vent lamp", " dim lamp fan", " dim lamp fan"])
    assert passes == [(2, max(lengths), 1), (2, 4, 4)]  # red, red vent, dim, dim lamp


def test_sliding_windows_are_prefilled_once(tmp_path):
    model = load_model(save_random_llama(tmp_path, kind="Gemma3", **dict(KINDS)["Gemma3"]))
    shared, lengths = len(model.encode_prompt(DOCUMENT)), [len(model.encode_prompt(prompt)) for prompt in PROMPTS]
    passes = passes_of(model)
    model.score(PROMPTS, [" red", " red fan", " dim"])
    assert passes == [(1, shared, 1), (4, max(lengths) - shared, 1), (4, 1, 1)]
    passes.clear()
    model.score(PROMPTS[:1], [" red"])  # the prefix that a Prompt names is still there
    assert passes == [(1, lengths[0] - shared, 1)]


def test_thousands_of_choices_in_bounded_memory(llama):
    words = [llama.tokenizer.decode([token]) for token in range(300, 420)]
    rng = np.random.default_rng(0)
    choices = ["".join(rng.choice(words, size=rng.integers(1, 5))) for _ in range(5000)]
    passes = passes_of(llama)
    scores = llama.score(PROMPTS[:2], choices)
    assert max(rows * tokens for rows, tokens, _ in passes[1:]) <= 2 * scoring._MOST_NODES
    some = rng.choice(5000, size=40, replace=False)
    expected = expected_of(llama, PROMPTS[:2], [choices[place] for place in some])
    np.testing.assert_allclose(scores[:, some], expected, atol=1e-4)


def test_a_long_choice_runs_in_parts(llama, monkeypatch):
    monkeypatch.setattr(scoring, "_MOST_LOGITS", 2 * 16 * len(llama.tokenizer))
    choice = DOCUMENT[9:]
    passes = passes_of(llama)
    scores = llama.score(PROMPTS[:2], [choice])
    assert max(tokens for _, tokens, logits in passes if logits > 1) <= 16
    np.testing.assert_allclose(scores, expected_of(llama, PROMPTS[:2], [choice]), atol=1e-4 * len(DOCUMENT.split()))


def test_a_choice_longer_than_the_window(llama):
    window = llama.capabilities.window
    with pytest.raises(PromptTooLongError, match=f"shorter choices .the longest takes {window + 1} tokens") as caught:
        llama.score(["red"], [" lamp", " lamp" * (window + 1)])
    assert caught.value.tokens == window + 1 + len(llama.encode_prompt("red"))
    llama.score(["red"], [" lamp" * (window - len(llama.encode_prompt("red")))])
    with pytest.raises(PromptTooLongError):
        llama.score(["red"], [" lamp" * (window - len(llama.encode_prompt("red")))], end_of_turn=True)


# The end of a turn.


@pytest.mark.parametrize("name", ["llama", "tiny"])
def test_the_end_of_turn_is_one_more_token(request, name):
    model = request.getfixturevalue(name)
    end = model.tokenizer.eos_token_id
    prompts = [*PROMPTS[:2], "Input: red\nOutput:"]
    expected = expected_of(model, prompts, CHOICES, [end])
    np.testing.assert_allclose(model.score(prompts, CHOICES, end_of_turn=True), expected, atol=1e-4)
    assert np.all(np.array(expected) < model.score(prompts, CHOICES))


def test_which_token_ends_a_turn(llama, monkeypatch):
    module, tokenizer = llama.module, llama.tokenizer
    first, second, eos = [*tokenizer.encode(" red lamp", add_special_tokens=False)[:2], tokenizer.eos_token_id]
    for ends, expected in ((eos, eos), ([first], first), ([first, eos], eos), ([first, second], first)):
        monkeypatch.setattr(module.generation_config, "eos_token_id", ends)
        assert llama.end_of_turn_id() == expected
    # A chat model stops at several tokens, of which its template writes one after an answer.
    turn = "{% for message in messages %}{{ message.content }}{{ ' lamp' if message.role == 'assistant' }}{% endfor %}"
    monkeypatch.setattr(tokenizer, "chat_template", turn)
    monkeypatch.setattr(module.generation_config, "eos_token_id", [first, eos, second])
    assert llama.end_of_turn_id() == second
    monkeypatch.setattr(tokenizer, "chat_template", "{{ raise_exception('no assistants') }}")
    assert llama.end_of_turn_id() == eos
    monkeypatch.setattr(tokenizer, "chat_template", None)
    monkeypatch.setattr(module.generation_config, "eos_token_id", None)
    with pytest.raises(UnsupportedError, match="score without `end_of_turn`"):
        llama.score(["red"], [" lamp"], end_of_turn=True)
    assert llama.score(["red"], [" lamp"]).shape == (1, 1)


def test_a_cache_tells_scores_with_the_end_of_turn_apart(tmp_path, tiny):
    expected = [tiny.score(["one two"], [" three"], end_of_turn=end_of_turn) for end_of_turn in (False, True)]
    assert expected[1] < expected[0]
    for _ in range(2):
        model = LayeredModel(tiny, cache=AnswerCache(tmp_path / "answers.sqlite"))
        assert [model.score(["one two"], [" three"], end_of_turn=each) for each in (False, True)] == expected


# Precision.


def test_log_probabilities_of_half_precision_logits_are_float32(llama):
    import torch

    llama.module.bfloat16()
    kept = []
    llama.module.register_forward_hook(lambda _module, _given, output: kept.append(output.logits))
    (scores,) = llama.score(["Input: red\nOutput:"], CHOICES[4:5])
    exact = torch.log_softmax(kept[0][0, -1].double(), dim=-1)[llama.encode_text(CHOICES[4])[0]].item()
    assert scores[0] == pytest.approx(exact, abs=1e-5)
    expected = expected_of(llama, PROMPTS, CHOICES)  # one token after the other, also in half precision
    np.testing.assert_allclose(llama.score(PROMPTS, CHOICES), expected, rtol=0.05, atol=0.5)


LM_EVAL = [  # `loglikelihood` of lm-eval 0.4.13, float32, without the chat template
    ("The capital of France is", " Paris", -0.26061),
    ("The capital of France is", " London", -4.40585),
    ("Question: 2+2?\nAnswer:", " 4", -1.28601),
    ("Question: 2+2?\nAnswer:", " twenty two", -16.44100),
    ("Le ciel est", " bleu", -13.99229),
    ("The quick brown", "  fox jumps", -20.15759),
    ("def f(x):\n    return", " x + 1\n", -4.76577),
]


def test_scores_are_those_of_lm_eval(smollm2):
    prompts = [Prompt(prompt, form="text") for prompt, _, _ in LM_EVAL]
    scores = smollm2.score(prompts, [choice for _, choice, _ in LM_EVAL])
    np.testing.assert_allclose(np.diag(scores), [value for _, _, value in LM_EVAL], atol=1e-4)


def test_scores_inside_the_chat_template(smollm2):
    prompts = [prompt for prompt, _, _ in LM_EVAL]
    choices = [choice for _, choice, _ in LM_EVAL]
    expected = expected_of(smollm2, prompts[1:4], choices, [smollm2.tokenizer.convert_tokens_to_ids("<|im_end|>")])
    np.testing.assert_allclose(smollm2.score(prompts[1:4], choices, end_of_turn=True), expected, atol=1e-4)
