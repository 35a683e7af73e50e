"""What a cut-off run leaves is found again, whole; what is foreign, damaged or half-written is not taken."""

import json

import pytest
import torch
from accelerate import PartialState

from rarec_hf.training.arguments import EncoderArguments, RARecTrainingArguments
from rarec_hf.training.stages import ForeignRunError, Stages, last_checkpoint, run_key
from rarec_hf.whole_files import DamagedFileError, remove_whole, write_manifest


@pytest.fixture
def process():
    return PartialState()


def stages_of(tmp_path, process, overwrite=False, **key):
    return Stages(tmp_path / "run", {"seed": 1, "data": "abc"} | key, process, overwrite)


def test_a_finished_stage_is_found_by_the_same_run(tmp_path, process):
    stages = stages_of(tmp_path, process)
    assert list(tmp_path.iterdir()) == [] and stages.kept("encoder") is None
    with stages.keep("encoder") as folder:
        (folder / "weights").write_text("w")
        assert stages.kept("encoder") is None  # not before it is whole
    expected = torch.rand(3)
    again = stages_of(tmp_path, process)
    assert (again.kept("encoder") / "weights").read_text() == "w" and again.finished() == ["encoder"]
    assert torch.equal(torch.rand(3), expected)  # random numbers go on as they did
    again.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_stage_that_fails_is_not_kept(tmp_path, process):
    stages = stages_of(tmp_path, process)
    with pytest.raises(KeyboardInterrupt), stages.keep("encoder") as folder:
        (folder / "weights").write_text("w")
        raise KeyboardInterrupt
    assert stages.finished() == [] and [path.name for path in stages.folder.iterdir()] == ["run.json"]


def test_another_run_is_refused_by_name_and_replaced_if_asked(tmp_path, process):
    with stages_of(tmp_path, process).keep("encoder") as folder:
        (folder / "weights").write_text("w")
    with pytest.raises(ForeignRunError, match="run.stages.*data 'abc' there, 'abd' here; seed 1 there, 2 here"):
        stages_of(tmp_path, process, seed=2, data="abd")
    assert stages_of(tmp_path, process).finished() == ["encoder"]
    assert stages_of(tmp_path, process, overwrite=True, seed=2).finished() == []
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_no_run_is_refused(tmp_path, process):
    (tmp_path / "run.stages").mkdir()
    (tmp_path / "run.stages" / "thesis.txt").write_text("mine")
    with pytest.raises(ForeignRunError, match="run.json cannot be read"):
        stages_of(tmp_path, process)
    (tmp_path / "run.stages" / "run.json").write_text('{"seed": 1, "da')
    with pytest.raises(ForeignRunError, match="run.json cannot be read"):
        stages_of(tmp_path, process)


@pytest.mark.parametrize("damage", ["truncated", "changed", "missing", "manifest"])
def test_a_damaged_stage_is_named(tmp_path, process, damage):
    stages = stages_of(tmp_path, process)
    with stages.keep("encoder") as folder:
        (folder / "weights").write_text("weights")
    file = stages.folder / "encoder" / ("complete.json" if damage == "manifest" else "weights")
    if damage == "missing":
        file.unlink()
    else:
        file.write_text({"truncated": "weigh", "changed": "WEIGHTS", "manifest": "{"}[damage])
    with pytest.raises(DamagedFileError, match=f"{file}.*Delete the folder"):
        stages.kept("encoder")


def test_the_latest_whole_checkpoint_is_gone_on_from(tmp_path, process):
    assert last_checkpoint(tmp_path / "none", process) is None
    for step in (4, 12, 8):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "weights").write_text("w")
        if step < 12:  # it was killed while it wrote the last one
            write_manifest(tmp_path / f"checkpoint-{step}")
    assert last_checkpoint(tmp_path, process) == str(tmp_path / "checkpoint-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-4", "checkpoint-8"]
    (tmp_path / "checkpoint-8" / "weights").write_text("v")
    with pytest.raises(DamagedFileError, match="checkpoint-8/weights is truncated or was changed"):
        last_checkpoint(tmp_path, process)


@pytest.mark.parametrize(("lost", "goes_on_from", "stay"), [(8, 4, [4]), (4, 16, [8, 12, 16]), (12, 16, [4, 8, 16])])
def test_a_checkpoint_whose_best_is_missing_is_not_gone_on_from(tmp_path, process, lost, goes_on_from, stay):
    """The best weights, wanted at the end, would silently be the last ones."""
    for step, best in ((4, 4), (8, 8), (12, 8), (16, 8)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        state = {"best_model_checkpoint": f"elsewhere/checkpoint-{best}"}
        (folder / "trainer_state.json").write_text(json.dumps(state))
        write_manifest(folder)
    remove_whole(tmp_path / f"checkpoint-{lost}")  # as the message on a damaged file says
    assert last_checkpoint(tmp_path, process) == str(tmp_path / f"checkpoint-{goes_on_from}")
    assert sorted(int(path.name[11:]) for path in tmp_path.iterdir()) == stay


def test_where_no_checkpoint_has_its_best_training_begins_anew(tmp_path, process):
    for step in (8, 12):
        (tmp_path / f"checkpoint-{step}").mkdir()
        state = {"best_model_checkpoint": "checkpoint-4"}
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(json.dumps(state))
        write_manifest(tmp_path / f"checkpoint-{step}")
    assert last_checkpoint(tmp_path, process) is None and list(tmp_path.iterdir()) == []


def test_a_removal_that_is_cut_off_leaves_nothing_that_says_it_is_whole(tmp_path, process, monkeypatch):
    (tmp_path / "checkpoint-4").mkdir()
    (tmp_path / "checkpoint-4" / "weights").write_text("w")
    write_manifest(tmp_path / "checkpoint-4")
    monkeypatch.setattr("rarec_hf.whole_files.shutil.rmtree", lambda path: (path / "weights").unlink())
    remove_whole(tmp_path / "checkpoint-4")
    monkeypatch.undo()
    assert last_checkpoint(tmp_path, process) is None


def test_the_key_is_what_decides_the_result(tmp_path):
    def key(**options):
        training = {"output_dir": str(tmp_path), "learning_rate": 0.1} | options
        return run_key(EncoderArguments(), RARecTrainingArguments(**training), data="abc", processes=1)

    assert key() == key(output_dir="elsewhere", disable_tqdm=True) == json.loads(json.dumps(key()))
    assert key() != key(learning_rate=0.2) and key() != key(seed=2)
