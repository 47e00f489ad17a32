"""A base model with three adapters, and a server for them on the loopback interface."""

from __future__ import annotations

import pytest
from random_llama import save_random_llama

from ragkit import load_model
from ragkit._progress import quiet_transformers
from ragkit.models import AdapterSet
from ragkit_pipelines.serving import Server


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    return save_random_llama(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def folders(base, tmp_path_factory):
    import torch
    from peft import LoraConfig, get_peft_model

    home, made = tmp_path_factory.mktemp("adapters"), {}
    for seed, name in enumerate("abc", 1):
        torch.manual_seed(seed)
        config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
        with quiet_transformers():
            get_peft_model(load_model(base).module, config).save_pretrained(home / name)
        made[name] = str(home / name)
    return made


@pytest.fixture(scope="session")
def adapters(base, folders):
    return AdapterSet(base, folders)


@pytest.fixture(scope="session")
def server(adapters):
    with Server(adapters) as running:
        yield running
