"""The script that made `tiny`, in small: it learns, and what it writes is a plain model of transformers and PEFT."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from ragkit.tiny import WEIGHTS
from ragkit.tiny.tokenizer import build_tokenizer
from ragkit.tiny.train import FREE, MAPPED, STAGES, Encoder, Stage, calls, train


def test_half_a_minute_of_training_learns_to_repeat_a_sequence(tmp_path):
    log = train(tmp_path, width=64, layers=4, tokens=800, max_steps=340, learning_rate=4e-3,
                stages=(Stage("repeat"), Stage("lookup")), log_every=20)  # fmt: skip
    assert log[0]["accuracy"] < 0.2
    assert max(entry["accuracy"] for entry in log if entry["stage"] == 0) > 0.8
    model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    said = " lamp river nova clay duke"
    ids = tokenizer(f"{said}\n\n{said[:11]}", return_tensors="pt")
    text = tokenizer.decode(model.generate(**ids, max_new_tokens=3, do_sample=False)[0, ids["input_ids"].shape[1] :])
    assert text == said[11:]


def test_loss_lies_on_what_the_context_determines():
    import random

    encode = Encoder(build_tokenizer(2048))
    sequence = calls(encode, random.Random(2), STAGES[3])
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
