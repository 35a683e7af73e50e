"""Stages of the main job that need no backbone."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from accelerate import PartialState

from rarec_hf.evaluation import word_vectors
from rarec_hf.training import encoder_stage, job
from rarec_hf.training.arguments import EncoderArguments, RARecTrainingArguments
from rarec_hf.training.loaded_encoder import load_id_encoder
from rarec_hf.training.stages import Stages


def test_refit_trains_both_encoders_on_validation_too_but_for_what_gains_are_fitted_on(split, tmp_path, monkeypatch):
    calls = []
    train = encoder_stage.train_id_encoder

    def watched(split, sequences, validation, arguments, *rest):
        calls.append((sum(map(len, sequences)), validation is not None, arguments.encoder_epochs))
        return train(split, sequences, validation, arguments, *rest)

    monkeypatch.setattr(encoder_stage, "train_id_encoder", watched)
    arguments = EncoderArguments(encoder_hidden_size=8, encoder_epochs=2, encoder_refit=True)
    training = RARecTrainingArguments(output_dir=str(tmp_path), disable_tqdm=True)
    known = job.gain_targets(split, 5, seed=0)
    inner, opponent, history = job.prepare_encoders(split, arguments, training, tmp_path, known=known)
    (inside, with_validation, _), (baseline, _, _), (inner_refit, inner_validated, _), (refit, validated, epochs) = (
        calls
    )
    assert with_validation and not validated and not inner_validated and epochs in (1, 2)
    assert refit == baseline + len(split.validation) - 5
    assert inner_refit == inside + len(set(split.encoder_users) - set(known.targets.users))
    assert opponent.config.training_data is None
    # It says what it saw: another draw of gain users would fit gains on targets that it knows
    inner.save_pretrained(tmp_path / "inner")
    assert load_id_encoder(str(tmp_path / "inner"), split, held_out=known.targets.users).config.training_data
    for other in (None, job.gain_targets(split, 5, seed=1).targets.users):
        with pytest.raises(ValueError, match="was trained on other interactions"):
            load_id_encoder(str(tmp_path / "inner"), split, held_out=other)


def test_the_word_opponent_reads_words_and_learns_from_all_users(split, tmp_path):
    arguments = EncoderArguments(
        encoder_type="text_sasrec", encoder_hidden_size=8, encoder_epochs=2, encoder_warmup_steps=0
    )
    training = RARecTrainingArguments(output_dir=str(tmp_path), disable_tqdm=True)
    texts = torch.randn(split.interactions.n_items, 6)
    prepare = partial(job.prepare_word_opponent, split, training=training, work_folder=tmp_path)
    stages = Stages(tmp_path / "run", {}, PartialState())
    encoder = prepare(arguments, texts=texts, stages=stages)
    torch.testing.assert_close(encoder.texts, word_vectors(split.interactions.items.words(), 6))
    assert stages.finished() == [job.WORD_OPPONENT] and encoder.config.training_data is None
    kept = prepare(arguments, texts=texts, stages=stages)  # as a run that goes on has it
    assert_same_weights(kept, encoder)
    # As the opponent without texts does, it learns from the validation targets of all but the users of gains
    known = job.gain_targets(split, 5, seed=0)
    last = prepare(replace(arguments, encoder_refit=True), texts=texts, known=known, stages=stages)
    assert stages.finished() == [job.WORD_OPPONENT, f"{job.WORD_OPPONENT}_refit"]
    assert not torch.equal(last.item_embeddings.weight, encoder.item_embeddings.weight)
    assert prepare(arguments) is None  # the encoder reads no texts
    assert prepare(replace(arguments, encoder_word_opponent=False), texts=texts) is None
    encoder.save_pretrained(tmp_path / "earlier" / job.WORD_OPPONENT)
    assert_same_weights(prepare(EncoderArguments(id_encoder=str(tmp_path / "earlier"))), encoder)
    assert prepare(EncoderArguments(id_encoder="file.safetensors")) is None


def assert_same_weights(one, other):
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_best_epoch():
    log = [
        {"loss": 1.0, "epoch": 1},
        *({"eval_ndcg@10": value, "epoch": n} for n, value in ((1, 0.1), (2, 0.3), (3, 0.2))),
    ]
    assert job.best_epoch(log) == 2
    with pytest.raises(ValueError):
        job.best_epoch([])
