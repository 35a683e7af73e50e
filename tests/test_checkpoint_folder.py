from __future__ import annotations

import json
import shutil

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForCausalLM

from rarec_hf import RARecForSequentialRecommendation, RARecProcessor
from rarec_hf.checkpoint_folder import REPRESENTATIONS_FILE
from rarec_hf.checkpoint_reading import BACKBONE_FOLDER
from rarec_hf.whole_files import DamagedFileError

WEIGHTS = "model.safetensors"
HISTORIES = [["i1", "i2", "i9"], ["i7"], []]
load = RARecForSequentialRecommendation.from_pretrained


@pytest.fixture
def lm_folder(make_backbone, tmp_path):
    folder = tmp_path / "lm"
    make_backbone().save_pretrained(folder)
    return folder


@pytest.fixture
def make_saved(trained, lm_folder, tmp_path):
    """`make_saved(full=False, **config)` -> a model as after training, and the folder it was saved in."""

    def make(full=False, **config):
        backbone = AutoModelForCausalLM.from_pretrained(lm_folder)
        model = trained(backbone=backbone, **{"backbone_address": f"path:{lm_folder}", **config})
        model.save_pretrained(tmp_path / "saved", include_backbone=full)
        return model, tmp_path / "saved"

    return make


def edit(folder, change, name=WEIGHTS):
    state = load_file(folder / name)
    change(state)
    save_file(state, folder / name, metadata={"format": "pt"})


def same_answers(one, other):
    assert torch.equal(*(torch.tensor(m.score_histories([[1, 2, 9], [7], []])) for m in (one, other)))
    assert one.recommend(HISTORIES, k=5) == other.recommend(HISTORIES, k=5)


# round trips ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("full", [False, True], ids=["slim", "full"])
@pytest.mark.parametrize("score", ["encoder_plus_llm", "dot_product"])
@pytest.mark.parametrize("position", ["before_text", "after_text"])
def test_recommendations_are_the_same_after_a_round_trip(make_saved, lm_folder, full, score, position):
    model, folder = make_saved(full, score=score, soft_prompt_position=position)
    if full:
        shutil.rmtree(lm_folder)
    for again in (load(folder), AutoModel.from_pretrained(folder)):
        assert type(again) is RARecForSequentialRecommendation
        assert not again.training
        same_answers(model, again)
        again.index_catalogue(progress=False)  # and computed anew
        same_answers(model, again)
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


@pytest.mark.parametrize(
    "switch",
    [{"use_soft_prompts": False}, {"use_id_vectors": False}, {"context_length": 0}],
    ids=lambda s: next(iter(s)),
)
def test_round_trip_with_parts_switched_off(make_saved, switch):
    model, folder = make_saved(**switch)
    same_answers(model, load(folder))


def test_a_second_save_of_a_loaded_model_is_the_same(make_saved, tmp_path):
    model, folder = make_saved()
    load(folder).save_pretrained(tmp_path / "again")
    assert sorted(p.name for p in folder.iterdir()) == sorted(p.name for p in (tmp_path / "again").iterdir())
    for name in (WEIGHTS, REPRESENTATIONS_FILE, "items.json", "processor_config.json"):
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name
    same_answers(model, load(tmp_path / "again"))


def test_training_can_go_on_after_loading(make_saved, make_batch):
    model, folder = make_saved()
    again = load(folder).train()
    assert {n for n, p in again.named_parameters() if p.requires_grad} == {
        n for n, p in model.named_parameters() if p.requires_grad
    }
    losses = [m.train()(**make_batch()).loss for m in (model, again)]
    assert torch.equal(*losses)


def test_loading_in_bf16_concerns_the_backbone_alone(make_saved):
    model, folder = make_saved()
    again = load(folder, dtype=torch.bfloat16)
    assert again.language_model.dtype == torch.bfloat16
    others = [p for name, p in again.named_parameters() if not name.startswith("language_model.")]
    assert all(p.dtype == torch.float32 for p in others)
    difference = model.score_histories([[1, 2, 9]]) - again.score_histories([[1, 2, 9]])
    assert abs(difference).max() < 0.2 * abs(model.score_histories([[1, 2, 9]])).max()


def test_a_backbone_that_is_loaded_already(make_saved, lm_folder):
    model, folder = make_saved(backbone_address=None)
    again = load(folder, language_model=AutoModelForCausalLM.from_pretrained(lm_folder))
    same_answers(model, again)
    with pytest.raises(ValueError, match="does not say where its backbone is"):
        load(folder)


def test_weights_given_as_the_trainer_does(make_saved, lm_folder, tmp_path):
    model, folder = make_saved()
    model.save_pretrained(tmp_path / "checkpoint", state_dict=model.state_dict())
    assert load_file(tmp_path / "checkpoint" / WEIGHTS).keys() == load_file(folder / WEIGHTS).keys()
    same_answers(model, load(tmp_path / "checkpoint"))


# what stands in the folder -------------------------------------------------------------------------------------------


def test_slim_and_full_folders(make_saved):
    model, folder = make_saved(full=False)
    state = load_file(folder / WEIGHTS)
    assert not [name for name in state if name.startswith("language_model")]
    assert {name.split(".")[0] for name in state} == {"id_encoder", "soft_prompts", "score_head", "id_scale"}
    assert not (folder / BACKBONE_FOLDER).exists()
    config = json.loads((folder / "config.json").read_text())
    assert config["backbone_fingerprint"].startswith("v1:")
    assert config["backbone_address"].startswith("path:")
    assert config["format_version"] == 1
    model.save_pretrained(folder, include_backbone=True)
    assert (folder / BACKBONE_FOLDER / WEIGHTS).is_file()
    assert not [name for name in load_file(folder / WEIGHTS) if name.startswith("language_model")]


def test_only_safetensors_json_and_tokenizer_files(make_saved):
    _, folder = make_saved(full=True)
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {
        "config.json",
        WEIGHTS,
        REPRESENTATIONS_FILE,
        "items.json",
        "processor_config.json",
        "tokenizer.json",
    } <= files
    assert {name.rsplit(".", 1)[-1] for name in files} <= {"json", "safetensors", "jinja", "txt", "gitignore"}
    assert [name for name in files if name.rsplit("/", 1)[-1].startswith(".")] == [".gitignore"]


def test_representations_of_older_weights_do_not_stay_in_the_folder(make_saved, make_batch):
    model, folder = make_saved()
    assert (folder / REPRESENTATIONS_FILE).exists()
    model.train()(**make_batch())
    model.save_pretrained(folder)
    with pytest.raises(ValueError, match="index_catalogue"):
        load(folder).recommend(["i1"])


def test_a_folder_without_processor_or_representations(make_saved):
    model, folder = make_saved()
    (folder / REPRESENTATIONS_FILE).unlink()
    again = load(folder)
    with pytest.raises(ValueError, match="index_catalogue"):
        again.recommend(["i1"])
    again.index_catalogue(progress=False)
    same_answers(model, again)
    (folder / "items.json").unlink()
    with pytest.raises(ValueError, match="no processor"):
        load(folder).recommend(["i1"])


# nothing random, nothing foreign -------------------------------------------------------------------------------------


def test_missing_backbone(make_saved, lm_folder):
    _, folder = make_saved()
    shutil.rmtree(lm_folder)
    with pytest.raises(OSError, match="config.json"):
        load(folder)


def test_full_folder_without_the_backbones_weights(make_saved):
    _, folder = make_saved(full=True)
    (folder / BACKBONE_FOLDER / WEIGHTS).unlink()
    with pytest.raises(OSError, match="safetensors"):
        load(folder)


def test_backbone_with_a_weight_missing_or_of_another_shape(make_saved, lm_folder):
    _, folder = make_saved()
    whole = load_file(lm_folder / WEIGHTS)
    edit(lm_folder, lambda state: state.pop("model.layers.1.mlp.up_proj.weight"))
    with pytest.raises(ValueError, match="would be random"):
        load(folder)
    save_file(whole | {"model.norm.weight": torch.ones(31)}, lm_folder / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises((ValueError, RuntimeError), match="shape|size"):
        load(folder)


@pytest.mark.parametrize("full", [False, True], ids=["slim", "full"])
def test_other_weights_than_the_alignment_was_trained_on(make_saved, make_backbone, lm_folder, full):
    _, folder = make_saved(full)
    other = make_backbone(seed=1)
    other.save_pretrained(folder / BACKBONE_FOLDER if full else lm_folder)
    with pytest.raises(ValueError, match="fingerprint"):
        load(folder)
    with pytest.raises(ValueError, match="fingerprint"):
        load(folder, language_model=other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("soft_prompts.user.projector.bias"), "1 missing.*projector.bias.*0 unexpected"),
        (lambda state: state.pop("id_encoder.norm.weight"), "1 missing.*id_encoder.norm.weight"),
        (lambda state: state.pop("score_head.text_whitening"), "1 missing.*text_whitening"),
        (lambda state: state.update({"soft_prompts.user.stray": torch.ones(1)}), "0 missing.*1 unexpected.*stray"),
        (lambda state: state.update({"language_model.lm_head.weight": torch.ones(1)}), "1 unexpected.*lm_head"),
        (
            lambda state: state.update({"soft_prompts.item.context": torch.ones(1, 96)}),
            "1 of another shape.*item.context",
        ),
    ],
)
def test_alignment_weights_that_do_not_fit_are_refused(make_saved, change, message):
    _, folder = make_saved()
    edit(folder, change)
    with pytest.raises(ValueError, match=message):
        load(folder)


@pytest.mark.parametrize("change", ["shape", "weights"])
def test_representations_that_do_not_fit_are_left_aside(make_saved, caplog, change):
    model, folder = make_saved()
    if change == "shape":
        edit(folder, lambda state: state.update(items=state["items"][:-1].contiguous()), REPRESENTATIONS_FILE)
    else:
        edit(folder, lambda state: state["id_encoder.norm.weight"].mul_(2))
    again = load(folder)
    assert "left aside" in caplog.text
    with pytest.raises(ValueError, match="index_catalogue"):
        again.recommend(["i1"])
    again.index_catalogue(progress=False)
    assert (again.recommend(["i1"]) == model.recommend(["i1"])) == (change == "shape")


def test_a_newer_format_is_refused(make_saved):
    _, folder = make_saved()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"format_version": 99}))
    with pytest.raises(StrictDataclassError, match="format version 99.*Update rarec_hf"):
        load(folder)


def test_folders_that_are_none(make_saved, tmp_path):
    _, folder = make_saved()
    for reader in (load, RARecProcessor.from_pretrained):
        with pytest.raises(FileNotFoundError, match="nowhere is not there: expected a folder.*or a Hub repository"):
            reader(tmp_path / "nowhere")
        with pytest.raises(FileNotFoundError, match=f"{WEIGHTS} is a file: expected a folder"):
            reader(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    with pytest.raises(OSError, match=WEIGHTS):
        load(folder)


def test_the_processor_of_the_folder(make_saved):
    model, folder = make_saved()
    processor = RARecProcessor.from_pretrained(folder)
    assert processor.titles == model.processor.titles
    assert load(folder).processor.templates == model.processor.templates


@pytest.mark.parametrize("share", [0.5, 0.0], ids=["truncated", "emptied"])
@pytest.mark.parametrize(
    "name", [WEIGHTS, REPRESENTATIONS_FILE, "items.json", "processor_config.json", "tokenizer.json", "config.json"]
)
def test_a_truncated_file_is_named_and_refused(make_saved, name, share):
    _, folder = make_saved()
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: int(share * len(content))])
    # config.json is Transformers' own to refuse
    with pytest.raises(OSError if name == "config.json" else DamagedFileError) as refused:
        load(folder)
    assert str(folder if name == "tokenizer.json" else folder / name) in str(refused.value)
