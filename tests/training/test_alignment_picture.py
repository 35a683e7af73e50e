"""The map's numbers when a training goes on from a checkpoint."""

import json
from types import SimpleNamespace

import pytest

from rarec_hf.training import alignment_picture
from rarec_hf.training.alignment_picture import AlignmentMapCallback


@pytest.mark.parametrize(
    ("step", "epoch", "drawn"),
    [(0, 0, [0]), (6, 1.5, [0, 4]), (8, 2.0, [0, 4, 8]), (4, 1.0, [0, 4])],
    ids=["start", "midst", "cut off before the picture", "after it"],
)
def test_what_comes_after_the_checkpoint_is_drawn_again(tmp_path, monkeypatch, step, epoch, drawn):
    monkeypatch.setattr(alignment_picture, "draw", lambda *arguments: {})
    state = SimpleNamespace(global_step=step, epoch=epoch, is_world_process_zero=True)
    before = [{"step": n} for n in (0, 4, 12)]
    (tmp_path / "numbers.json").write_text(json.dumps(before))
    callback = AlignmentMapCallback(None, None, tmp_path)
    callback.on_train_begin(None, state, None)
    assert [row["step"] for row in callback.history] == drawn
    state.global_step = 16
    callback.on_epoch_end(None, state, None)
    assert [row["step"] for row in json.loads((tmp_path / "numbers.json").read_text())] == [*drawn, 16]
