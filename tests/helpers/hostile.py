"""Text and bytes that a careless or hostile hand may have written, for the fuzz tests."""

import json

from hypothesis import strategies as st

# Text that made readers of other libraries stumble: depth, numbers too long to be read, half surrogates, zero bytes.
NASTY = (
    "[" * 5000,
    '{"a":' * 5000,
    "1" * 5000,
    '{"input": ' + "9" * 5000 + "}",
    '"\\ud800"',
    '{"text": "\\ud800", "input": "\\ud800", "output": "\\ud800"}',
    "\x00",
    "NaN",
    "1e999",
    "-",
    "%s{0}{{}}$x",
    "../" * 40,
    "a" * 5000,
    "(" * 5000,
    "²",
    "\ufeff",
    "\u2028",
)


@st.composite
def changed(draw, texts):
    """One of some texts, with a few pieces cut out, doubled, swapped for another's or for something nasty."""
    text = draw(st.sampled_from(texts))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(text)))
        stop = min(len(text), start + draw(st.integers(0, 30)))
        piece = draw(st.sampled_from(["", text[start:stop] * 2, *NASTY]) | st.text(max_size=8))
        text = text[:start] + piece + text[stop:]
    return text


def hostile(*texts):
    """Anything at all, or nearly one of these texts."""
    return changed(texts) | st.sampled_from(NASTY) | st.text(max_size=60)


def hostile_bytes(*texts):
    """The same as bytes, some of them no UTF-8."""
    encoded = hostile(*texts).map(lambda text: text.encode("utf-8", "surrogatepass"))
    return encoded | st.binary(max_size=60) | st.tuples(encoded, st.binary(max_size=3)).map(b"".join)


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
# What JSON, and Python besides, can hold.
anything = st.recursive(
    leaves | st.binary(max_size=3) | st.just(object()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


def other_values(value):
    """A JSON document in which some values are other ones, of any kind."""
    if isinstance(value, dict):
        keys = {name: other_values(each) for name, each in value.items()}
        return st.fixed_dictionaries({}, optional=keys) | st.fixed_dictionaries(keys) | leaves
    if isinstance(value, list):
        return st.lists(st.one_of(*map(other_values, value)), max_size=3) if value else st.just([]) | leaves
    return st.just(value) | leaves | st.just([]) | st.just({})


def other_json(text):
    """`other_values` of a JSON text, as text."""
    return other_values(json.loads(text)).map(json.dumps)
