"""Contract suites: what embedders, retrievers, selectors and language models must do, as test classes to subclass.

A subclass gives the part under test as a pytest fixture of the name that the tests ask for; the rest is inherited::

    class TestMyModel(LanguageModelContract):
        @pytest.fixture
        def model(self):
            return MyModel()

Nothing here imports pytest. Class attributes hold the inputs; override them where a part takes other ones.
"""

from ragkit.testing.embedders import EmbedderContract
from ragkit.testing.models import LanguageModelContract
from ragkit.testing.retrievers import RetrieverContract
from ragkit.testing.selectors import SelectorContract

__all__ = ["EmbedderContract", "LanguageModelContract", "RetrieverContract", "SelectorContract"]
