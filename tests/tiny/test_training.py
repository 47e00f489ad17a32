"""The script that made `tiny`, in small: it learns, and what it writes is a plain model of transformers and PEFT."""

from pathlib import Path
from random import Random

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from ragkit.tiny import WEIGHTS
from ragkit.tiny._tokenizer import build_tokenizer
from ragkit.tiny.train import FREE, MAPPED, PAD, STAGES, Encoder, Stage, calls, make_batch, train


def test_half_a_minute_of_training_learns_to_repeat_a_sequence(tmp_path):
    # How many steps that takes depends on the last bits of matrix products: about 270, of which it may take many times.
    most, repeat = 2000, Stage("repeat", pass_at=0.9)
    log = train(tmp_path, width=64, layers=4, tokens=800, max_steps=most, final_steps=0, learning_rate=4e-3,
                stages=(repeat, Stage("lookup")), log_every=20)  # fmt: skip
    assert log[0]["accuracy"] < 0.2
    assert log[-1]["step"] < most - 20, "the first stage was never passed"
    model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    encode = Encoder(AutoTokenizer.from_pretrained(tmp_path))
    ids, kinds = make_batch(encode, Random(0), repeat, 2000)
    with torch.no_grad():
        said = model(ids, attention_mask=(ids != PAD).long()).logits[:, :-1].argmax(-1)
    repeated = kinds[:, 1:] == MAPPED
    assert (said == ids[:, 1:])[repeated].float().mean() > 0.6  # it was above 0.9 in training, and is 0.01 by chance


def test_loss_lies_on_what_the_context_determines():
    encode = Encoder(build_tokenizer(2048))
    sequence = calls(encode, Random(2), STAGES[3])
    pieces = [encode.tokenizer.decode([token]) for token in sequence.ids]
    assert MAPPED in sequence.kinds
    seen: dict[str, str] = {}
    for place, (piece, kind) in enumerate(zip(pieces, sequence.kinds, strict=True)):
        if pieces[place - 1] == "Output:":  # a symbol counts where its command was shown before
            request = pieces[: place - 2][::-1]
            words = request[: request.index("Input:")]
            assert (kind == MAPPED) == (piece in seen), piece
            seen[piece] = words[-1]
        if piece == "Input:":
            assert kind == FREE


def test_the_weights_are_small_and_plain():
    files = {file.name: file.stat().st_size for file in Path(WEIGHTS).iterdir()}
    assert sum(files.values()) < 10_000_000
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= set(files)
