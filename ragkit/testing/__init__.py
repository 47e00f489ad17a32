"""Contract tests for embedders, retrievers, selectors and language models, as test classes to subclass.

A subclass provides the component under test as a pytest fixture with the name that the tests expect::

    class TestMyModel(LanguageModelContract):
        @pytest.fixture
        def model(self):
            return MyModel()

This package does not import pytest. The inputs are class attributes; override them if a component needs other inputs.
"""

from ragkit.testing._embedders import EmbedderContract
from ragkit.testing._models import LanguageModelContract
from ragkit.testing._retrievers import RetrieverContract
from ragkit.testing._selectors import SelectorContract

__all__ = ["EmbedderContract", "LanguageModelContract", "RetrieverContract", "SelectorContract"]
