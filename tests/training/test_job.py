"""Stages of the main job that need no backbone."""

import pytest

from rarec_hf.training import encoder_stage, job
from rarec_hf.training.arguments import EncoderArguments, RARecTrainingArguments


def test_refit_trains_the_opponent_on_validation_too(split, tmp_path, monkeypatch):
    calls = []
    train = encoder_stage.train_id_encoder

    def watched(split, sequences, validation, arguments, *rest):
        calls.append((sum(map(len, sequences)), validation is not None, arguments.encoder_epochs))
        return train(split, sequences, validation, arguments, *rest)

    monkeypatch.setattr(encoder_stage, "train_id_encoder", watched)
    arguments = EncoderArguments(encoder_hidden_size=8, encoder_epochs=2, encoder_refit=True)
    training = RARecTrainingArguments(output_dir=str(tmp_path), disable_tqdm=True)
    inner, opponent, history = job.prepare_encoders(split, arguments, training, tmp_path)
    (_, with_validation, _), (baseline, _, _), (refit, validated, epochs) = calls
    assert with_validation and not validated and epochs in (1, 2)
    assert refit == baseline + len(split.validation)
    assert inner.config.training_data == split.seen_by_encoder_digest() and opponent.config.training_data is None


def test_best_epoch():
    log = [
        {"loss": 1.0, "epoch": 1},
        *({"eval_ndcg@10": value, "epoch": n} for n, value in ((1, 0.1), (2, 0.3), (3, 0.2))),
    ]
    assert job.best_epoch(log) == 2
    with pytest.raises(ValueError):
        job.best_epoch([])
