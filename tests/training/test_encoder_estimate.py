"""The trial counts what the run will do."""

import pytest

from rarec_hf.training import encoder_estimate
from rarec_hf.training.arguments import EncoderArguments, RARecTrainingArguments
from rarec_hf.training.encoder_estimate import EncoderEstimate, estimate_encoders


@pytest.fixture
def training(tmp_path):
    return RARecTrainingArguments(output_dir=str(tmp_path), disable_tqdm=True)


def counted(monkeypatch, split, training, **changes):
    """Estimates under which a step takes a second, or two with texts, and ranking a user a tenth."""
    monkeypatch.setattr(
        encoder_estimate, "_tried", lambda split, settings, training, texts, *_: (1.0 + (texts is not None), 0.1)
    )
    return estimate_encoders(split, EncoderArguments(encoder_batch_size=8, **changes), training, 6)


def test_every_encoder_epoch_and_validation_is_counted(monkeypatch, split, training):
    found = counted(monkeypatch, split, training, encoder_epochs=3)
    inner, everybody = len(split.encoder_users), split.interactions.n_users
    assert (inner, everybody) == (32, 40) and len(split.validation) == 40
    assert found.seconds == pytest.approx(
        {"inside RA-Rec": 3 * (4 + 0.1 * inner), "its opponent": 3 * (5 + 0.1 * everybody)}
    )
    assert found.of_refit == 0 and "refit" not in str(found)
    assert counted(monkeypatch, split, training, id_encoder="folder") is None


def test_texts_bring_a_third_one_and_a_refit_takes_the_steps_again(monkeypatch, split, training):
    kind = {"encoder_type": "text_sasrec", "encoder_epochs": 2}
    found = counted(monkeypatch, split, training, encoder_refit=True, **kind)
    assert found.seconds == pytest.approx(
        {
            "inside RA-Rec": 2 * (4 * 2 + 3.2),
            "its opponent": 2 * (5 + 4.0),
            "its opponent over word counts": 2 * (5 * 2 + 4.0),
        }
    )
    assert found.of_refit == 2 * (8 + 5 + 10) and "the last trainings (--encoder_refit)" in str(found)
    assert len(counted(monkeypatch, split, training, encoder_word_opponent=False, **kind).seconds) == 2


@pytest.mark.parametrize("kind", ["sasrec", "text_sasrec", "comirec"])
def test_the_trial_is_a_real_one(split, training, kind, capfd):
    found = estimate_encoders(split, EncoderArguments(encoder_type=kind, encoder_hidden_size=8), training, 6)
    assert all(0 < seconds < 600 for seconds in found.seconds.values())
    assert "loss" not in capfd.readouterr().out


def test_in_words():
    told = str(EncoderEstimate({"inside RA-Rec": 90.0, "its opponent": 30.0}, 60.0)).splitlines()
    assert [line.split()[-2] for line in told[1:]] == ["1.5", "0.5", "1.0", "3.0"]
