"""A module that opens an index for writing when it is imported, as an application that is loaded before a fork does."""

import os
from pathlib import Path

from ragkit import Index

FOLDER = Path(os.environ["RAGKIT_TEST_INDEX"])
INDEX = Index.open(FOLDER)
