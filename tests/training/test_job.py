"""Stages of the main job that need no backbone."""

import pytest

from rarec_hf.training import encoder_stage, job
from rarec_hf.training.arguments import EncoderArguments, RARecTrainingArguments
from rarec_hf.training.loaded_encoder import load_id_encoder


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


def test_best_epoch():
    log = [
        {"loss": 1.0, "epoch": 1},
        *({"eval_ndcg@10": value, "epoch": n} for n, value in ((1, 0.1), (2, 0.3), (3, 0.2))),
    ]
    assert job.best_epoch(log) == 2
    with pytest.raises(ValueError):
        job.best_epoch([])
