"""A backbone spread over processes: the main job leaves what it leaves with the whole one in each, killed or not."""

import json
import os

import pandas as pd
import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DistributedType
from accelerate.utils.launch import prepare_multi_gpu_env
from safetensors.torch import load_file
from tests_support import CONFIGURATIONS, ROOT, launch, save_tiny_backbone

from rarec_hf import RARecForSequentialRecommendation
from rarec_hf.sharded_backbone import ShardingError
from rarec_hf.training.command_line import parse_arguments
from rarec_hf.training.launched_sharding import take_over_sharding

OPTIONS = [
    *("--fp32", "--disable_tqdm", "true", "--encoder_epochs", "2", "--encoder_hidden_size", "16"),
    *("--logging_steps", "1"),
    *("--alignment_samples", "0", "--alignment_fraction", "0.3", "--per_device_train_batch_size", "8"),
    *("--num_train_epochs", "2", "--save_strategy", "steps", "--save_steps", "3", "--eval_strategy", "steps"),
    *("--eval_steps", "3", "--recommendation_samples", "2"),
]


def test_the_main_job_killed_and_given_again(inputs, tmp_path):
    options = ["--interactions", str(inputs / "events.csv"), "--items", str(inputs / "items.jsonl"), *OPTIONS]
    options += ["--backbone", str(inputs / "backbone"), "--output_dir"]
    train, killed, fsdp2 = ROOT / "examples" / "train.py", ROOT / "tests" / "killed_job.py", "fsdp2_cpu.yaml"
    whole, spread = tmp_path / "whole", tmp_path / "spread"
    launch(2, train, *options, str(whole), timeout=600)
    launch(2, killed, "checkpoint-6", *options, str(spread), timeout=600, configuration=fsdp2, fails=True)
    kept = {path.name for path in (tmp_path / "spread.stages").glob("alignment*.checkpoints/checkpoint-*")}
    assert "checkpoint-3" in kept and not spread.exists()
    said = launch(2, train, *options, str(spread), timeout=600, configuration=fsdp2).stdout
    assert "Going on with a run that was cut off" in said and "sharded over 2 processes" in said

    one, other = (load_file(folder / "model.safetensors") for folder in (whole, spread))
    assert one.keys() == other.keys() and not any(name.startswith("language_model") for name in other)
    assert all(one[name].equal(other[name]) for name in one)
    for name in ("item_representations.safetensors", "recommendation_samples.md"):
        assert (whole / name).read_bytes() == (spread / name).read_bytes(), name
    pd.testing.assert_frame_equal(pd.read_parquet(whole / "ranks.parquet"), pd.read_parquet(spread / "ranks.parquet"))
    logs = [
        [line.get("loss", line.get("eval_ndcg@10")) for line in json.loads(state.read_text("utf-8"))["log_history"]]
        for state in (folder / "checkpoints" / "checkpoint-6" / "trainer_state.json" for folder in (whole, spread))
    ]
    assert logs[0] == logs[1] and len(logs[0]) > 4
    size = (whole / "checkpoints" / "checkpoint-6" / "model.safetensors").stat().st_size
    assert (spread / "checkpoints" / "checkpoint-6" / "model.safetensors").stat().st_size == size
    loaded = RARecForSequentialRecommendation.from_pretrained(spread)
    assert len(loaded.recommend(["i1", "i2"], k=3)) == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    "further",
    [
        ["--soft_prompt_position", "before_text", "--gradient_checkpointing", "true", "--alignment_map", "true"],
        ["--every_position", "true", "--text_states_gib", "0.1", "--gather_negatives", "false"],
    ],
    ids=["the paper's layout", "stored texts"],
)
def test_other_ways_to_train(inputs, tmp_path, further):
    options = [
        "--interactions",
        str(inputs / "events.csv"),
        "--items",
        str(inputs / "items.jsonl"),
        *OPTIONS,
        *further,
    ]
    options += ["--backbone", str(inputs / "backbone"), "--output_dir"]
    for name, configuration in (("whole", "processes.yaml"), ("spread", "fsdp2_cpu.yaml")):
        texts = ["--text_states_folder", str(tmp_path / f"{name}.texts")]
        launch(2, ROOT / "examples" / "train.py", *options, str(tmp_path / name), *texts, timeout=900,
               configuration=configuration)  # fmt: skip
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "spread"))
    assert one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)


def test_each_process_holds_its_part_and_helps_the_other(tmp_path):
    # The main job's embeddings are not tied to a head
    save_tiny_backbone(tmp_path, tie_word_embeddings=True)
    launch(2, ROOT / "tests" / "sharded_worker.py", str(tmp_path), timeout=600)


@pytest.mark.parametrize("path", sorted(CONFIGURATIONS.glob("*.yaml")), ids=lambda path: path.stem)
def test_configurations_are_what_they_say(monkeypatch, path):
    """By Accelerate's own loader and launcher, as far as the environment of a process."""
    arguments = launch_command_parser().parse_args(["--config_file", str(path), "train.py"])
    arguments, *_ = _validate_launch_command(arguments)
    content = yaml.safe_load(path.read_text("utf-8"))
    assert arguments.num_processes == content["num_processes"] and arguments.num_machines == content["num_machines"]
    assert load_config_from_file(str(path)).distributed_type == DistributedType(content["distributed_type"])
    if content["num_processes"] == 1:
        return
    for name in ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED", *(n for n in os.environ if n.startswith("FSDP_"))):
        monkeypatch.delenv(name, raising=False)
    for name, value in prepare_multi_gpu_env(arguments).items():
        monkeypatch.setenv(name, value)
    assert take_over_sharding() == ("fsdp2" if path.stem.startswith("fsdp2") else "none")


@pytest.fixture
def launched(monkeypatch):
    """As `accelerate launch` starts a process with FSDP2."""
    for name, value in {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_the_launchers_request_is_taken_over_once(launched):
    alignment = parse_arguments(["--output_dir", "x"])[2]
    assert alignment.shard_backbone == "fsdp2"
    assert take_over_sharding() == "none"  # Accelerate sees none either


def test_offload_is_taken_over(launched):
    launched.setenv("FSDP_OFFLOAD_PARAMS", "true")
    assert parse_arguments(["--output_dir", "x"])[2].shard_backbone == "fsdp2_offload"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("FSDP_VERSION", "1", "`fsdp_version: 2` in the configuration, got 1"),
        ("FSDP_RESHARD_AFTER_FORWARD", "false", "`fsdp_reshard_after_forward: true` in the configuration, got false"),
        ("FSDP_ACTIVATION_CHECKPOINTING", "true", "give --gradient_checkpointing true"),
        ("ACCELERATE_USE_DEEPSPEED", "true", "got DEEPSPEED"),
    ],
)
def test_what_the_backbone_is_not_sharded_by_is_refused(launched, name, value, said):
    launched.setenv(name, value)
    with pytest.raises(ShardingError, match=said):
        take_over_sharding()


def test_the_whole_backbone_cannot_be_saved_from_parts(launched):
    with pytest.raises(ShardingError, match="--include_backbone needs the whole backbone"):
        parse_arguments(["--output_dir", "x", "--include_backbone", "true"])
