"""Small interactions with an order that can be learnt, their split, and models to align on them."""

import pytest
import torch
from tests_support import save_tiny_backbone, walk_tables

from rarec_hf import SASRecConfig, SASRecModel
from rarec_hf.data import build_interactions, leave_one_out
from rarec_hf.training import job
from rarec_hf.training.command_line import parse_arguments


@pytest.fixture
def tables():
    return walk_tables()


@pytest.fixture
def split(tables):
    return leave_one_out(build_interactions(*tables), alignment_fraction=0.2, seed=0)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("backbone")
    save_tiny_backbone(folder)
    return folder


@pytest.fixture
def prepare(split, backbone, tmp_path):
    """`prepare(*flags, split=split)`: an untrained encoder's model, and what else `align` takes."""

    def make(*flags, split=split):
        options = ["--backbone", str(backbone), "--fp32", "--alignment_samples", "16", "--gain_users", "0"]
        options += ["--output_dir", str(tmp_path / "work"), "--disable_tqdm", "true"]
        options += ["--per_device_train_batch_size", "8", "--logging_steps", "1", *flags]
        _, _, alignment, training = parse_arguments(options)
        torch.manual_seed(0)
        encoder = SASRecModel(SASRecConfig(n_items=split.interactions.n_items, hidden_size=8, max_history=8)).eval()
        model, _ = job.build_model(split, encoder, alignment, alignment.score)
        return model, alignment, training

    return make
