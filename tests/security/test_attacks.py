"""The attacks of ``benchmarks/reliability/attacks``: every promise of ``docs/security.md`` must hold."""

import importlib
import sys
import warnings
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks" / "reliability"
sys.path.append(str(FOLDER))
script = importlib.import_module("attack")


def attack_parameters():
    for area in script.AREAS:
        for attack in script.attacks_of(area):
            marks = [pytest.mark.slow] if attack.slow else []
            yield pytest.param(attack, id=f"{area}-{attack.name}", marks=marks)


@pytest.mark.parametrize("attack", list(attack_parameters()))
def test_promise_holds(attack, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # hostile input may warn
        assert attack.run(tmp_path) == "", attack.promise
