"""A backbone spread over processes: the main job leaves what it leaves with the whole one in each, killed or not."""

import json
import os
from importlib.util import find_spec
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DistributedType
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env
from safetensors.torch import load_file
from tests_support import CONFIGURATIONS, ROOT, launch, save_tiny_backbone

from rarec_hf import RARecForSequentialRecommendation
from rarec_hf.sharded_backbone import ShardingError
from rarec_hf.training.command_line import parse_arguments
from rarec_hf.training.launched_sharding import SHARDINGS, take_over_sharding
from rarec_hf.zero3_backbone import load_zero3_backbone

OPTIONS = [
    *("--fp32", "--disable_tqdm", "true", "--encoder_epochs", "2", "--encoder_hidden_size", "16"),
    *("--logging_steps", "1"),
    *("--alignment_samples", "0", "--alignment_fraction", "0.3", "--per_device_train_batch_size", "8"),
    *("--num_train_epochs", "2", "--save_strategy", "steps", "--save_steps", "3", "--eval_strategy", "steps"),
    *("--eval_steps", "3", "--recommendation_samples", "2"),
]


needs_deepspeed = pytest.mark.skipif(find_spec("deepspeed") is None, reason="wants DeepSpeed: `make zero3`")


fsdp2 = pytest.param("fsdp2_cpu.yaml", marks=pytest.mark.slow)


@pytest.mark.parametrize("configuration", [fsdp2, pytest.param("zero3.yaml", marks=needs_deepspeed)])
def test_the_main_job_killed_and_given_again(inputs, tmp_path, configuration):
    options = ["--interactions", str(inputs / "events.csv"), "--items", str(inputs / "items.jsonl"), *OPTIONS]
    options += ["--backbone", str(inputs / "backbone"), "--output_dir"]
    train, killed = ROOT / "examples" / "train.py", ROOT / "tests" / "killed_job.py"
    whole, spread = tmp_path / "whole", tmp_path / "spread"
    launch(2, train, *options, str(whole), timeout=600)
    launch(2, killed, "checkpoint-6", *options, str(spread), timeout=600, configuration=configuration, fails=True)
    kept = {path.name for path in (tmp_path / "spread.stages").glob("alignment*.checkpoints/checkpoint-*")}
    assert "checkpoint-3" in kept and not spread.exists()
    said = launch(2, train, *options, str(spread), timeout=600, configuration=configuration).stdout
    assert "Going on with a run that was cut off" in said and "sharded over 2 processes" in said

    one, other = (load_file(folder / "model.safetensors") for folder in (whole, spread))
    assert one.keys() == other.keys() and not any(name.startswith("language_model") for name in other)
    logs = [
        [line.get("loss", line.get("eval_ndcg@10")) for line in json.loads(state.read_text("utf-8"))["log_history"]]
        for state in (folder / "checkpoints" / "checkpoint-6" / "trainer_state.json" for folder in (whole, spread))
    ]
    assert len(logs[0]) > 4
    if configuration == "zero3.yaml":  # whose gradients are equal to float tolerance
        assert logs[0] == pytest.approx(logs[1], rel=1e-4)
        for name, tensor in one.items():
            torch.testing.assert_close(other[name], tensor, atol=1e-5, rtol=1e-3)
    else:
        assert logs[0] == logs[1]
        assert all(one[name].equal(other[name]) for name in one)
        for name in ("item_representations.safetensors", "recommendation_samples.md"):
            assert (whole / name).read_bytes() == (spread / name).read_bytes(), name
    pd.testing.assert_frame_equal(pd.read_parquet(whole / "ranks.parquet"), pd.read_parquet(spread / "ranks.parquet"))
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


@pytest.mark.parametrize("by", ["fsdp2", pytest.param("zero3", marks=needs_deepspeed)])
def test_each_process_holds_its_part_and_helps_the_other(tmp_path, by):
    # The main job's embeddings are not tied to a head
    save_tiny_backbone(tmp_path, tie_word_embeddings=True)
    launch(2, ROOT / "tests" / "sharded_worker.py", str(tmp_path), by, timeout=600)


@pytest.mark.parametrize(
    "by", [pytest.param("fsdp2", marks=pytest.mark.slow), pytest.param("zero3", marks=needs_deepspeed)]
)
def test_beside_a_catalogue_by_rows(tmp_path, by):
    save_tiny_backbone(tmp_path / "backbone")
    launch(2, ROOT / "tests" / "catalogue_worker.py", str(tmp_path), by, timeout=600)


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
    if arguments.use_deepspeed:
        # As its launcher does
        arguments.deepspeed_fields_from_accelerate_config = ",".join(content["deepspeed_config"])
        prepared = prepare_deepspeed_cmd_env(arguments)[1]
    else:
        prepared = prepare_multi_gpu_env(arguments)
    for name, value in prepared.items():
        monkeypatch.setenv(name, value)
    assert take_over_sharding() == (kind if (kind := path.stem.removesuffix("_cpu")) in SHARDINGS else "none")


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
    ],
)
def test_what_the_backbone_is_not_sharded_by_is_refused(launched, name, value, said):
    launched.setenv(name, value)
    with pytest.raises(ShardingError, match=said):
        take_over_sharding()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2", "`zero_stage: 3` in the configuration, got 2"),
        ("ACCELERATE_DEEPSPEED_CONFIG_FILE", "mine.json", "`deepspeed_config_file: none` .* got mine.json: it is not"),
        ("ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE", "cpu", "fsdp_offload_params: true"),
        ("ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE", "cpu", "stays on its device"),
    ],
)
def test_what_zero3_does_not_do_is_refused(monkeypatch, name, value, said):
    launched = {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3", name: value}
    for known, told in launched.items():
        monkeypatch.setenv(known, told)
    with pytest.raises(ShardingError, match=said):
        take_over_sharding()


@pytest.mark.skipif(find_spec("deepspeed") is not None, reason="DeepSpeed is installed")
def test_deepspeed_is_asked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ShardingError, match=r"pip install rarec_hf\[deepspeed\]"):
        load_zero3_backbone(tmp_path, SimpleNamespace(num_processes=2))


def test_the_whole_backbone_cannot_be_saved_from_parts(launched):
    with pytest.raises(ShardingError, match="--include_backbone needs the whole backbone"):
        parse_arguments(["--output_dir", "x", "--include_backbone", "true"])
