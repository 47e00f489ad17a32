"""What a comparison notes about the answers of API models."""

from ragkit.records import Completion
from ragkit_pipelines.compare.strategies.base import remarks


def test_answers_that_may_vary_are_noted():
    done = [Completion(text="a"), Completion(text="b", omitted_settings=("temperature",))]
    assert remarks(done) == "the model does not accept temperature; its answers may vary between runs"
    assert remarks(done[:1]) == ""
