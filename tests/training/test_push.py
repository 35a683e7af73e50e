"""What Trainers push: a model folder that loads, and nothing that is read by unpickling."""

from __future__ import annotations

from pathlib import Path

import pytest
from hub_client import ME
from huggingface_hub.errors import HfHubHTTPError
from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

from rarec_hf import RARecForSequentialRecommendation
from rarec_hf.training.push_callback import WholePushCallback
from rarec_hf.training.ranking_trainer import RankingTrainer

PICKLED = (".bin", ".pt", ".pth", ".pkl")
WHOLE = {
    ".gitignore", "README.md", "config.json", "model.safetensors", "items.json", "processor_config.json",
    "tokenizer.json",
}  # fmt: skip
load = RARecForSequentialRecommendation.from_pretrained


@pytest.fixture
def make_trainer(make_model, make_backbone, make_batch, hub, tmp_path):
    """`make_trainer(kind, **training arguments)`: two steps, a checkpoint after each; `kind` names the Trainer."""

    def make(kind: str, **arguments):
        make_backbone().save_pretrained(tmp_path / "lm")
        backbone = AutoModelForCausalLM.from_pretrained(tmp_path / "lm")
        model = make_model(backbone=backbone, backbone_address=f"path:{tmp_path / 'lm'}")
        fields = {"output_dir": str(tmp_path / "films"), "max_steps": 2, "save_steps": 1, "hub_token": ME}
        fields |= {"per_device_train_batch_size": 2, "use_cpu": True, "report_to": "none", "disable_tqdm": True}
        fields |= {"remove_unused_columns": False, "dataloader_pin_memory": False, "save_strategy": "steps"}
        given = {
            "model": model,
            "args": TrainingArguments(**{**fields, **arguments}),
            "train_dataset": [{"row": n} for n in range(4)],
            "data_collator": lambda rows: make_batch(processor=model.processor),
        }
        if kind == "ranking":
            return RankingTrainer(**given, scorer=model.scorer)
        more = {
            "plain": {},
            "processor": {"processing_class": model.processor},
            "callback": {"callbacks": [WholePushCallback()]},
        }
        return Trainer(**given, **more[kind])

    return make


def pickled(hub, repo_id="me/films"):
    """Files of any commit of the repository that are read by unpickling."""
    commits = hub.repositories[repo_id].commits.values()
    return sorted({name for files in commits for name in files if name.endswith(PICKLED)})


def same(one, other):
    for name, tensor in one.own_weights().items():
        assert tensor.equal(other.own_weights()[name]), name


class Waits(TrainerCallback):
    """Steps take long enough for a push: Trainer overwrites the files of one that still runs."""

    def __init__(self, trainer):
        self.trainer = trainer

    def on_step_begin(self, args, state, control, **kwargs):
        self.trainer._finish_current_push()


@pytest.mark.parametrize("kind", ["ranking", "plain", "processor"])
def test_push_after_training(make_trainer, hub, kind):
    trainer = make_trainer(kind)
    trainer.train()
    trainer.model.index_catalogue(progress=False)
    trainer.push_to_hub(private=True)
    assert {path.name for path in Path(trainer.args.output_dir).iterdir()} > {"training_args.bin", "checkpoint-2"}
    files = hub.files("me/films")
    assert set(files) >= WHOLE | {"item_representations.safetensors"}
    assert not [name for name in files if name.startswith(("checkpoint", "backbone"))]
    assert pickled(hub) == []
    assert hub.repositories["me/films"].private and hub.repositories["me/films"].messages[-1] == "End of training"
    again = load("me/films", token=ME)
    same(trainer.model, again)
    assert again.recommend(["i1", "i2"]) == trainer.model.recommend(["i1", "i2"])


@pytest.mark.parametrize(
    ("kind", "strategy"),
    [
        ("ranking", "every_save"),
        ("callback", "every_save"),
        ("processor", "every_save"),
        ("plain", "every_save"),
        ("ranking", "all_checkpoints"),
        ("plain", "all_checkpoints"),
    ],
)
def test_pushes_while_training(make_trainer, hub, kind, strategy):
    trainer = make_trainer(
        kind, push_to_hub=True, hub_strategy=strategy, hub_model_id="me/films", hub_always_push=True
    )
    trainer.add_callback(Waits(trainer))
    trainer.train()
    trainer._finish_current_push()
    repository = hub.repositories["me/films"]
    assert pickled(hub) == []
    assert [message for message in repository.messages if message.endswith("step 1")]
    first = next(
        oid for oid, message in zip(repository.commits, repository.messages, strict=True) if "step 1" in message
    )
    middle = load("me/films", revision=first)
    assert (middle.processor is None) == (kind == "plain")  # which takes config and weights alone
    if strategy == "all_checkpoints":
        assert {"checkpoint-1/model.safetensors", "checkpoint-2/trainer_state.json"} <= set(hub.files("me/films"))
        same(load("me/films", subfolder="checkpoint-2"), trainer.model)
    trainer.push_to_hub()
    assert set(hub.files("me/films")) >= WHOLE and pickled(hub) == []
    same(load("me/films"), trainer.model)


def test_new_weights_in_a_repository_with_an_earlier_catalogue(make_trainer, hub, caplog):
    trainer = make_trainer("ranking")
    trainer.model.index_catalogue(progress=False)
    trainer.push_to_hub()
    trainer.train()
    trainer.push_to_hub()
    again = load("me/films")
    assert "left aside" in caplog.text
    with pytest.raises(ValueError, match="index_catalogue"):
        again.recommend(["i1"])
    again.index_catalogue(progress=False)
    again.push_to_hub("me/films", token=ME)
    assert load("me/films").recommend(["i1"]) == again.recommend(["i1"])


def test_a_wrong_token_ends_the_run_before_it_begins(make_trainer, hub):
    with pytest.raises(HfHubHTTPError, match="Invalid credentials"):
        make_trainer("ranking", push_to_hub=True, hub_token="hf_wrong")
    assert hub.repositories == {}
