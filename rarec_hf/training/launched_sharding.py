"""How `accelerate launch` was told to shard the model: taken over for the backbone alone."""

from __future__ import annotations

import os

from ..sharded_backbone import ShardingError

SHARDINGS = ("fsdp2", "fsdp2_offload", "zero3")

# What a configuration sets in the environment, its name there, what is expected, and what to do
_FSDP2 = (
    ("FSDP_VERSION", "fsdp_version", "2", "the backbone is sharded by FSDP2"),
    ("FSDP_RESHARD_AFTER_FORWARD", "fsdp_reshard_after_forward", "true", "no layer stays whole"),
    (
        *("FSDP_ACTIVATION_CHECKPOINTING", "fsdp_activation_checkpointing", "false"),
        "give --gradient_checkpointing true to examples/train.py instead",
    ),
)
_ZERO3 = (
    ("ACCELERATE_DEEPSPEED_CONFIG_FILE", "deepspeed_config_file", "none", "it is not read, leave it out"),
    ("ACCELERATE_DEEPSPEED_ZERO_STAGE", "zero_stage", "3", "lower stages keep the backbone whole in every process"),
    (
        *("ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE", "offload_param_device", "none"),
        "use examples/accelerate_configs/fsdp2.yaml with `fsdp_offload_params: true` for parts in main memory",
    ),
    (
        *("ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE", "offload_optimizer_device", "none"),
        "the alignment module, which alone is trained, stays on its device",
    ),
)


def take_over_sharding() -> str:
    """
    What a configuration of `accelerate launch` asks for, as `--shard_backbone`. The launcher's request is removed from
    the environment: Accelerate would spread alignment module and ID encoder too, which stay whole in every process,
    and would gather all weights for each checkpoint. Call it before anything of Accelerate's is made.

    Returns:
        one of `SHARDINGS`, or `"none"`.

    Raises:
        ShardingError: the configuration asks for what the backbone is not sharded by.
    """
    if _told("ACCELERATE_USE_DEEPSPEED"):
        _check(_ZERO3)
        os.environ["ACCELERATE_USE_DEEPSPEED"] = "false"
        return "zero3"
    if not _told("ACCELERATE_USE_FSDP"):
        return "none"
    _check(_FSDP2)
    os.environ["ACCELERATE_USE_FSDP"] = "false"
    return "fsdp2_offload" if _told("FSDP_OFFLOAD_PARAMS") else "fsdp2"


def _check(settings: tuple[tuple[str, str, str, str], ...]) -> None:
    for name, setting, expected, mend in settings:
        if (got := os.environ.get(name, expected).lower()) != expected:
            raise ShardingError(f"Expected `{setting}: {expected}` in the configuration, got {got}: {mend}.")


def _told(name: str) -> bool:
    return os.environ.get(name, "false").lower() in ("1", "true", "yes")


__all__ = ["SHARDINGS", "take_over_sharding"]
