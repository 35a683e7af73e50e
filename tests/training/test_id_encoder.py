"""Training windows, the trained encoder, and the guard against one that has seen the alignment's targets."""

import shutil

import numpy as np
import pytest
import torch

from rarec_hf.data import build_interactions, leave_one_out
from rarec_hf.training.arguments import EncoderArguments
from rarec_hf.training.id_encoder import (
    IDEncoderTrainer,
    SequenceDataset,
    WindowCollator,
    encoder_name,
    encoder_scorer,
    new_id_encoder,
    train_id_encoder,
)
from rarec_hf.training.loaded_encoder import load_id_encoder
from rarec_hf.training.ranking_trainer import RankingTrainer


def small(**changes) -> EncoderArguments:
    return EncoderArguments(**{"encoder_hidden_size": 16, "encoder_max_history": 8, "encoder_epochs": 2, **changes})


def trained(split, folder, digest=None, resumable=False, validation=True, **changes):
    targets, arguments = split.validation if validation else None, small(**changes)
    return train_id_encoder(
        *(split, split.encoder_sequences(), targets, arguments, folder, 0, digest),
        disable_tqdm=True,
        resumable=resumable,
    )


def test_windows_cover_every_position_once():
    data = SequenceDataset([np.arange(8), np.array([5]), np.array([1, 2])], max_history=3)
    targets = sorted(int(item) for window in (data[n] for n in range(len(data))) for item in window[1:])
    assert targets == sorted([1, 2, 3, 4, 5, 6, 7, 2])
    assert max(len(data[n]) for n in range(len(data))) == 4


def test_no_sequence_to_learn_from_is_an_error():
    with pytest.raises(ValueError, match="two items"):
        SequenceDataset([np.array([1])], 3)


def test_collated_labels_are_the_next_items():
    batch = WindowCollator()([np.array([1, 2, 3]), np.array([4, 5])])
    assert batch["history"].tolist() == [[1, 2], [4, -1]]
    assert batch["labels"].tolist() == [[2, 3], [5, -100]]


def test_training_learns_the_order_and_keeps_the_best_epoch(split, tmp_path):
    encoder, log = trained(split, tmp_path, encoder_epochs=25, encoder_learning_rate=1e-2, encoder_patience=30)
    values = [entry["eval_ndcg@10"] for entry in log if "eval_ndcg@10" in entry]
    assert max(values) > 2 * values[0]
    assert max(values) > 0.5
    from rarec_hf.evaluation.metrics import summarize
    from rarec_hf.training.ranking_trainer import RankingDataset

    ranks = RankingDataset(split.interactions, split.validation).rank(encoder_scorer(encoder), "again", progress=False)
    assert summarize(ranks)["ndcg@10"] == pytest.approx(max(values), abs=1e-6)


def test_early_stopping_stops(split, tmp_path):
    _, log = trained(split, tmp_path, encoder_epochs=50, encoder_learning_rate=0.0, encoder_patience=2)
    assert sum("eval_ndcg@10" in entry for entry in log) == 3


@pytest.mark.parametrize(
    ("stop", "validation", "changes"),
    [
        ("all epochs", True, {"encoder_epochs": 3, "encoder_patience": 9}),
        ("all epochs, no validation", False, {"encoder_epochs": 3}),
        ("early", True, {"encoder_epochs": 50, "encoder_learning_rate": 1e-2, "encoder_patience": 1}),
        ("early, nothing learnt", True, {"encoder_epochs": 50, "encoder_learning_rate": 0.0, "encoder_patience": 1}),
    ],
)
def test_a_training_that_had_ended_is_not_gone_on_with(split, tmp_path, stop, validation, changes):
    """Killed after its last checkpoint and before its stage was kept: the same weights and random numbers."""
    encoder, log = trained(split, tmp_path, resumable=True, validation=validation, **changes)
    expected, steps = torch.rand(3), [entry["step"] for entry in log]
    assert ("early" in stop) == (log[-1]["epoch"] < changes["encoder_epochs"])
    checkpoints = sorted(path.name for path in tmp_path.iterdir())
    shutil.copytree(tmp_path / checkpoints[-1], tmp_path / "checkpoint-0")  # killed before it was removed
    again, log = trained(split, tmp_path, resumable=True, validation=validation, **changes)
    assert sorted(path.name for path in tmp_path.iterdir()) == checkpoints
    assert torch.equal(torch.rand(3), expected) and [entry["step"] for entry in log] == steps
    for name, weight in encoder.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight), name


def test_scores_do_not_depend_on_the_batch(split, tmp_path):
    encoder, _ = trained(split, tmp_path)
    histories = [split.interactions.history(u) for u in range(6)] + [np.array([], dtype=int)]
    together = encoder_scorer(encoder)(histories)
    alone = np.concatenate([encoder_scorer(encoder)([history]) for history in histories])
    np.testing.assert_allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("kept", [True, False])
def test_items_vectors_are_kept_until_the_weights_change(monkeypatch, kept):
    if not kept:
        monkeypatch.setattr("rarec_hf.training.id_encoder.MOST_KEPT_BYTES", 100)
    encoder = new_id_encoder(small(encoder_type="text_sasrec"), n_items=9, text_dim=4)
    encoder.set_texts(torch.randn(9, 4))
    made, item_vectors, histories = [], encoder.item_vectors, [[1, 2], [3]]
    encoder.item_vectors = lambda: made.append(1) or item_vectors()
    scorer = encoder_scorer(encoder)
    first = scorer(histories)
    np.testing.assert_array_equal(scorer(histories), first)
    assert len(made) == (1 if kept else 2)
    with torch.no_grad():
        encoder.item_embeddings.weight.mul_(2)
    second = scorer(histories)
    encoder.set_texts(torch.randn(9, 4))
    third = scorer(histories)
    assert len(made) == (3 if kept else 4)
    assert np.abs(first - second).max() > 0 and np.abs(second - third).max() > 0
    np.testing.assert_array_equal(third, encoder_scorer(encoder)(histories))


def test_only_an_encoder_that_has_not_seen_the_targets_is_taken(split, tables, tmp_path):
    encoder, _ = trained(split, tmp_path / "work", digest=split.seen_by_encoder_digest())
    encoder.save_pretrained(tmp_path / "good")
    torch.testing.assert_close(load_id_encoder(str(tmp_path / "good"), split).item_vectors(), encoder.item_vectors())
    other_users = leave_one_out(build_interactions(*tables), alignment_fraction=0.2, seed=1)
    with pytest.raises(ValueError, match="may have seen the targets"):
        load_id_encoder(str(tmp_path / "good"), other_users)
    encoder.config.training_data = None
    encoder.save_pretrained(tmp_path / "unknown")
    with pytest.raises(ValueError, match="does not say"):
        load_id_encoder(str(tmp_path / "unknown"), split)
    load_id_encoder(str(tmp_path / "unknown"), split, trust=True)


def test_an_encoder_of_another_catalogue_is_refused(split, tables, tmp_path):
    encoder, _ = trained(split, tmp_path / "work")
    encoder.save_pretrained(tmp_path / "encoder")
    interactions, items = tables
    shuffled = leave_one_out(build_interactions(interactions, items.iloc[::-1]), alignment_fraction=0.2, seed=0)
    with pytest.raises(ValueError, match="another catalogue"):
        load_id_encoder(str(tmp_path / "encoder"), shuffled, trust=True)


def test_negatives_are_drawn_for_the_batch():
    windows = [np.array([1, 2, 3]), np.array([4, 5])]
    even = WindowCollator(400, np.array([0, 9, 0, 0]))(windows)
    assert even["negatives"].shape == (400,) and set(even["negatives"].tolist()) == {0, 1, 2, 3}
    assert "log_q" not in even
    popular = WindowCollator(4000, np.array([0, 97, 0, 0]), "popularity")(windows)
    shares = torch.bincount(popular["negatives"], minlength=4) / 4000
    torch.testing.assert_close(shares, popular["log_q"].exp(), atol=0.03, rtol=0)
    assert popular["log_q"].exp()[1].item() == pytest.approx(98 / 101)


@pytest.mark.parametrize("kind", ["comirec", "gru4rec", "bert4rec"])
def test_other_encoders_are_trained_the_same_way(split, tmp_path, kind):
    arguments = EncoderArguments(
        encoder_type=kind,
        encoder_objective="gbce",
        encoder_negatives=8,
        encoder_epochs=1,
        encoder_hidden_size=8,
        encoder_interests=2,
    )
    encoder, history = train_id_encoder(
        split, split.baseline_sequences(), split.validation, arguments, tmp_path, 0, "digest", True
    )
    assert encoder_name(encoder).lower() == kind and encoder.config.training_data == "digest"
    assert any("eval_ndcg@10" in entry for entry in history)
    assert encoder_scorer(encoder)([[1, 2], [3]]).shape == (2, split.interactions.n_items)


def test_pairwise_objectives_need_negatives():
    with pytest.raises(ValueError, match="--encoder_objective bpr needs --encoder_negatives"):
        new_id_encoder(EncoderArguments(encoder_objective="bpr"), n_items=5)


@pytest.mark.parametrize("negatives", [0, 8])
def test_one_gradient_of_the_table_changes_no_weight(split, tmp_path, monkeypatch, negatives):
    """Lookups give sparse gradients, added to the table's once a step; without that the same weights come out."""

    def run():
        arguments = small(encoder_epochs=2, encoder_batch_size=16, encoder_negatives=negatives)
        return train_id_encoder(split, split.baseline_sequences(), None, arguments, tmp_path, 3, None, True)[0]

    ours = run()
    assert ours.lookup_table is None
    monkeypatch.setattr(IDEncoderTrainer, "train", RankingTrainer.train)
    monkeypatch.setattr(IDEncoderTrainer, "training_step", RankingTrainer.training_step)
    plain = run()
    torch.testing.assert_close(ours.state_dict(), plain.state_dict(), atol=1e-5, rtol=1e-4)
    assert not torch.equal(plain.item_vectors(), new_id_encoder(small(), n_items=plain.config.n_items).item_vectors())
