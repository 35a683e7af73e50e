"""docs/troubleshooting.md quotes what the package says: each message there is provoked here and compared."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import numpy as np
import pytest
from doc_blocks import ROOT
from tests_support import save_tiny_backbone, walk_tables
from transformers import AutoModelForCausalLM, MambaConfig

from rarec_hf import RARecForSequentialRecommendation, SASRecConfig, SASRecModel
from rarec_hf.backbone_source import load_backbone, resolve_backbone
from rarec_hf.data import load_interactions, save_vectors
from rarec_hf.training import job
from rarec_hf.training.command_line import parse_arguments

PAGE = ROOT / "docs" / "troubleshooting.md"


def prepare_data():
    data, *_ = parse_arguments(["--interactions", "events.csv", "--items", "items.csv"])
    return job.load_data(data, seed=42)


def prepare(*options: str):
    """As examples/train.py begins: data, split, ID encoder."""
    _, encoder, _, training = parse_arguments([*options])
    job.prepare_encoders(prepare_data(), encoder, training, Path("."))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The reader's folder, with what the mistakes are made of."""
    monkeypatch.chdir(tmp_path)
    events, items = walk_tables()
    events.to_csv("events.csv", index=False)
    items.to_csv("items.csv", index=False)
    events.assign(timestamp=np.where(events.index == 3, 1_400_000_000_000, 1_400_000_000)).to_csv(
        "mixed.csv", index=False
    )
    save_vectors("vectors.npz", items.item_id.tolist(), np.ones((len(items), 4), np.float32))
    save_vectors("few.npz", items.item_id.tolist()[:28], np.ones((28, 4), np.float32))
    (tmp_path / "sasrec.pt").write_bytes(b"")
    (tmp_path / "reviews.py").write_text("")
    return tmp_path


@pytest.fixture
def on_a_folder(trained, here):
    """A function that gives a model on a backbone in a folder of the reader's, for those that need one."""

    def make():
        save_tiny_backbone(here / "lm")
        return trained(backbone=load_backbone(resolve_backbone("lm")), backbone_address="path:lm")

    return make


def not_indexed(make):
    model = make()
    model.forget_representations()
    model.recommend(["i1"])


def gone_backbone(make):
    make().save_pretrained("films")
    Path("lm").rename("moved")
    RARecForSequentialRecommendation.from_pretrained("films")


def other_backbone(make):
    make().save_pretrained("films")
    changed = AutoModelForCausalLM.from_pretrained("lm")
    changed.get_input_embeddings().weight.data += 1
    changed.save_pretrained("lm")
    RARecForSequentialRecommendation.from_pretrained("films")


def mamba(make):
    tiny = MambaConfig(vocab_size=300, hidden_size=32, num_hidden_layers=2, state_size=4)
    encoder = SASRecModel(SASRecConfig(n_items=12))
    RARecForSequentialRecommendation.from_backbone(AutoModelForCausalLM.from_config(tiny), encoder)


def reentrant(make):
    make().gradient_checkpointing_enable({"use_reentrant": True})


def small_batch(make):
    job.align(make(), None, None, parse_arguments(["--per_device_train_batch_size", "1"])[3])


def two_processes(make):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MASTER_PORT", "29500")  # as accelerate leaves it there
        patch.delenv("WORLD_SIZE", raising=False)
        patch.setattr("sys.argv", ["train.py"])
        runpy.run_path(str(ROOT / "examples" / "train.py"), run_name="__main__")


def estimate_of_a_run(make):
    make()
    split, arguments = prepare_data(), ["--backbone", "lm", "--fp32", "--alignment_samples", "8"]
    _, encoder, alignment, training = parse_arguments(arguments)
    raise SystemExit(
        job.dry_run(split, encoder, alignment, training).split("\n", 1)[1]
    )  # its first line names the backbone


PROVOKED = {
    "The columns have other names": lambda make: load_interactions("events.csv", "items.csv", user_column="who"),
    "Times in two units": lambda make: load_interactions("mixed.csv", "items.csv"),
    "A data set that came with a Python script": lambda make: load_interactions("reviews.py", "items.csv"),
    "An encoder that does not prove what it has seen": lambda make: prepare("--id_encoder", "vectors.npz"),
    "A checkpoint of another project": lambda make: prepare("--id_encoder", "sasrec.pt"),
    "Items without a vector": lambda make: prepare("--id_encoder", "few.npz", "--trust_id_encoder"),
    "Another backbone is refused": mamba,
    "The weights are not those of the training": other_backbone,
    "The LLM is not there": gone_backbone,
    "Checkpointing loses the prefix": reentrant,
    "It takes too long, or more memory than there is": estimate_of_a_run,
    "A batch of one": small_batch,
    "Early stopping without evaluation": lambda make: parse_arguments(["--early_stopping_patience", "2"]),
    "Several processes": two_processes,
    "A history with an unknown item": lambda make: make().recommend(["i1", "B00X"]),
    "User ids where there are none": lambda make: make().recommend(["i1"], user_ids=["ann"]),
    "The catalogue has not been encoded": not_indexed,
}


def quoted() -> dict[str, str]:
    """Heading -> the message that stands under it, in one line."""
    found = {}
    for section in re.split(r"^###? ", PAGE.read_text("utf-8"), flags=re.M)[1:]:
        messages = re.findall(r"^```text\n(.*?)^```", section, flags=re.S | re.M)
        assert len(messages) <= 1, section
        if messages:
            found[section.split("\n")[0]] = " ".join(messages[0].split())
    return found


def test_every_message_of_the_page_is_provoked():
    assert list(quoted()) == list(PROVOKED)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("heading", PROVOKED)
def test_the_message_is_as_quoted(heading, on_a_folder):
    with pytest.raises((Exception, SystemExit)) as raised:
        PROVOKED[heading](on_a_folder)
    said, expected = " ".join(str(raised.value).split()), quoted()[heading]
    pattern = ".*".join(re.escape(part) for part in expected.split("..."))
    assert re.match(pattern, said), said
