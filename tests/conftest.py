"""Fixtures for all tests. Everything runs offline and without a key."""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.update(OMP_WAIT_POLICY="PASSIVE", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", RAGKIT_MODEL="tiny")
os.environ.pop("OPENAI_API_KEY", None)
os.environ.pop("OPENAI_BASE_URL", None)
os.environ.pop("OPENAI_API_BASE", None)

import pytest
from hypothesis import HealthCheck, settings

# The same cases each time, so that a change is judged by itself; `make fuzz` looks for new ones.
# No example is judged by how long it takes, as that is a matter of the machine.
untimed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", untimed, derandomize=True)
settings.register_profile("new", untimed, print_blob=True)
settings.load_profile(os.environ.get("RAGKIT_HYPOTHESIS", "same"))

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(Path(__file__).parent / "helpers"))
pytest.register_assert_rewrite("ragkit.testing")


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real data: RAGKIT_DATA, or ../shared/data."""
    folder = Path(os.environ.get("RAGKIT_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"real data is not at {folder}; set RAGKIT_DATA to the folder that holds it")
    return folder


@pytest.fixture(scope="session")
def tiny():
    """The model that ships with ragkit."""
    from ragkit.models import load_model

    return load_model("tiny")


@pytest.fixture(scope="session")
def smollm2(_cache: None):
    """SmolLM2-135M-Instruct in float32, which gives the same answers on every processor."""
    from ragkit.models import load_model

    return load_model("smollm2", dtype="float32")


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory):
    """Use a new cache folder in every run, except for converted models, which all runs and workers share."""
    folder, shared = tmp_path_factory.mktemp("cache"), ROOT / "build/converted-models"
    shared.mkdir(parents=True, exist_ok=True)
    (folder / "gguf").symlink_to(shared)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAGKIT_CACHE", str(folder))
        yield
