"""Words of texts in many scripts, and what is built on them: search, duplicate checks and leak checks."""

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit import BM25Retriever, BM25Selector, Example, Guard, JaccardSelector, Task
from ragkit._lexical.analysis import STOP_WORDS, NgramAnalyzer, WordAnalyzer, load_analyzer
from ragkit._text import composed, folded, normalised, words
from ragkit.embedders._hashing import HashingEmbedder
from ragkit.errors import InvalidInputError, UnknownSpecError
from ragkit.ingest._duplicates import near_duplicates
from ragkit.metrics._matching import exact_match
from ragkit_pipelines.rag.prompt import is_refusal
from ragkit_selectors import check_pool
from ragkit_selectors.stages.filters import count_pieces

SAMPLES = {
    "Chinese": "举头望明月，低头思故乡。",
    "Japanese": "東京タワーへ行きました。",
    "Thai": "ภาษาไทยง่ายมาก ผู้ใหญ่",
    "Lao": "ສະບາຍດີ ຂ້ອຍຊື່",
    "Khmer": "ភាសាខ្មែរ ស្រស់ស្អាត",
    "Myanmar": "မြန်မာဘာသာစကား",
    "Hindi": "यह कि है, हाँ की",
    "Tamil": "தமிழ் மொழி",
    "Arabic": "مُحَمَّدٌ رَسُولُ",
    "Hebrew": "שָׁלוֹם עֲלֵיכֶם",
    "Vietnamese": "Tiếng Việt dễ lắm",
    "Korean": "학교에 갑니다",
    "Russian": "Красная лампа",
    "Greek": "Η ΟΔΌΣ της οδός",
}


@given(st.text(st.characters(max_codepoint=127)))
def test_ascii_texts_are_split_at_what_is_no_letter_digit_or_underscore(text):
    assert words(text) == re.findall(r"[a-z0-9_]+", text.lower())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("举头望明月", ["举头", "头望", "望明", "明月"]),
        ("灯", ["灯"]),
        ("红灯 LED灯泡2个", ["红灯", "led", "灯泡", "2", "个"]),
        ("東京タワー", ["東京", "京タ", "タワ", "ワー"]),
        ("ｶﾀｶﾅ", ["カタ", "タカ", "カナ"]),  # half width
        ("ง่าย", ["ง่า", "าย"]),  # a tone mark stays with its consonant
        ("यह कि है", ["यह", "कि", "है"]),
        ("مُحَمَّد", ["مُحَمَّد"]),
        ("STRASSE straße ﬁn", ["strasse", "strasse", "fin"]),
        ("İstanbul ISTANBUL", ["istanbul", "istanbul"]),
        ("re\u00adtriever می\u200cخواهم", ["retriever", "میخواهم"]),  # invisible characters
        ("a\u200bb", ["a", "b"]),  # a space without width
        ("Ａ１ ①", ["a1", "1"]),
        ("葛\U000e0100城", ["葛城"]),  # a variation selector
        ("🙂 👍🏽 ?!", []),
        ("naïve_name don't", ["naïve_name", "don", "t"]),
    ],
)
def test_words_of_other_scripts(text, expected):
    assert words(text) == expected


@given(st.text())
def test_equivalent_spellings_have_the_same_words(text):
    composed, decomposed = unicodedata.normalize("NFC", text), unicodedata.normalize("NFD", text)
    assert words(composed) == words(decomposed)
    assert normalised(normalised(text)) == normalised(text)
    assert folded(folded(text)) == folded(text)
    if words(text):
        assert words(folded(text)) == words(text)


@pytest.mark.parametrize("language", SAMPLES)
def test_no_word_begins_with_a_mark_or_loses_one(language):
    found = words(SAMPLES[language])
    assert found
    assert not [word for word in found if unicodedata.category(word[0]).startswith("M")]
    marks = {
        character for character in normalised(SAMPLES[language]) if unicodedata.category(character) in {"Mn", "Mc"}
    }
    assert marks <= set("".join(found))


@pytest.mark.parametrize("language", SAMPLES)
def test_search_finds_parts_of_texts(language):
    text, others = SAMPLES[language], [other for name, other in SAMPLES.items() if name != language]
    part = folded(text).split()[-1]
    assert [hit.text for hit in BM25Retriever([*others, text]).retrieve(part, 1)] == [text]
    pool = [Example(each, "x") for each in (*others, text)]
    assert [BM25Selector(pool).select(part, 1)[0].input, JaccardSelector(pool).select(part, 1)[0].input] == [text] * 2


def test_single_chinese_characters_are_found():
    retriever = BM25Retriever(["红色的灯在走廊里", "歌很长"])
    assert [hit.text for hit in retriever.retrieve("灯")] == ["红色的灯在走廊里"]
    assert WordAnalyzer(None)("红灯 a") == ["红灯", "a", "红", "灯"]
    assert WordAnalyzer(None)("a タワ") == ["a", "タワ"]  # kana are not words by themselves


def test_leaks_and_duplicates_in_other_scripts():
    assert Task("", [Example("यह कि है", "a")], [Example("यह की है", "b")]).leaks() == []
    assert len(Task("", [Example("Café noir!", "a")], [Example("cafe\u0301 NOIR", "b")]).leaks()) == 1
    long = "红色的灯在走廊里我们在晚上打开它歌很长船在港口"
    check = check_pool([Example(long, "a"), Example(long[:-1], "a"), Example("我们在晚上打开它", "b")], near=0.9)
    assert [(pair.first, pair.second) for pair in check.near_duplicates] == [(0, 1)]
    assert [(first, second) for first, second, _ in near_duplicates([long, long + "。", "歌很长"])] == [(0, 1)]
    guarded = JaccardSelector([Example(long, "a"), Example(long[:-1] + "。", "b"), Example("歌很长", "c")]) | Guard(0.9)
    assert [example.output for example in guarded.select("灯在走廊里", 2)] == ["b", "c"]


def test_the_hashing_embedder_sees_parts_of_unspaced_texts():
    vectors = HashingEmbedder(512).embed_documents(["低头思故乡", "举头望明月", "故乡"])
    assert vectors[2] @ vectors[0] > 0.3 > abs(vectors[2] @ vectors[1])
    assert HashingEmbedder(8).fingerprint == "hash:8:v2"  # other vectors than those of version 1


def test_a_refusal_in_chinese_is_recognised():
    assert is_refusal("我不知道。", "我不知道")
    assert is_refusal("Cafe\u0301 FERMÉ.", "Café fermé")
    assert not is_refusal("我不知道答案吗", "我不知道")


def test_stems_and_stop_words():
    assert WordAnalyzer("english", STOP_WORDS)("What lamps WERE the dimming cats'") == ["lamp", "dim", "cat"]
    assert WordAnalyzer("english")("the dimming cats") == ["the", "dim", "cat"]
    assert WordAnalyzer("german")("die Häuser") == ["die", "haus"]
    assert load_analyzer(None)("die Häuser") == ["die", "häuser"]
    assert load_analyzer(words) is words
    assert repr(WordAnalyzer("english", frozenset("cab"))) == "WordAnalyzer('english', ['a', 'b', 'c'])"
    with pytest.raises(UnknownSpecError, match="Did you mean 'english'"):
        WordAnalyzer("englisch")


def test_tokens_of_prompts_are_counted_by_characters_in_scripts_without_spaces():
    assert count_pieces("It's red.") == 5
    assert count_pieces("红色的灯。") == 5
    assert count_pieces("红色 LED") == 3


def test_ngrams():
    assert NgramAnalyzer("word", 1, 2)("The red LAMP") == ["the", "red", "lamp", "the red", "red lamp"]
    assert NgramAnalyzer("char", 3, 3)("Ärger\t\n is") == [" är", "ärg", "rge", "ger", "er ", " is", "is "]
    with pytest.raises(InvalidInputError, match="`grams`"):
        NgramAnalyzer("letters", 1, 2)


@given(st.text("ae\u0301\u0316\u0345 ½ﬁ한", max_size=40) | st.text(max_size=40))
def test_texts_are_composed_as_unicode_defines(text):
    for form in ("NFC", "NFKC"):
        assert composed(text, form) == unicodedata.normalize(form, text)


def test_long_runs_of_marks_are_interrupted_and_equal_runs_stay_equal():
    run = "\u0316\u0301" * 10_000  # Unicode's own normalisation takes time that grows with the square of the length
    assert composed(f"a{run}b").replace("\u034f", "").count("\u0316") == 10_000
    assert folded(f"A{run} b") == folded(f"a{run} B")
    assert exact_match(f"a{run}", f" a{run} ") == 1.0
