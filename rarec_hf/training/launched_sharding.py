"""How `accelerate launch` was told to shard the model: taken over for the backbone alone."""

from __future__ import annotations

import os

from ..sharded_backbone import ShardingError

SHARDINGS = ("fsdp2", "fsdp2_offload")


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
        raise ShardingError(
            "Expected `distributed_type: FSDP` or MULTI_GPU in the configuration, got DEEPSPEED: what ZeRO-3 "
            "gathers depends on the passes that a process made before, which differ here. Use "
            "examples/accelerate_configs/fsdp2.yaml: it spreads the backbone as ZeRO-3 would."
        )
    if not _told("ACCELERATE_USE_FSDP"):
        return "none"
    for name, setting, expected, mend in (
        ("FSDP_VERSION", "fsdp_version", "2", "the backbone is sharded by FSDP2"),
        ("FSDP_RESHARD_AFTER_FORWARD", "fsdp_reshard_after_forward", "true", "no layer stays whole"),
        (
            *("FSDP_ACTIVATION_CHECKPOINTING", "fsdp_activation_checkpointing", "false"),
            "give --gradient_checkpointing true to examples/train.py instead",
        ),
    ):
        if (got := os.environ.get(name, expected).lower()) != expected:
            raise ShardingError(f"Expected `{setting}: {expected}` in the configuration, got {got}: {mend}.")
    os.environ["ACCELERATE_USE_FSDP"] = "false"
    return "fsdp2_offload" if _told("FSDP_OFFLOAD_PARAMS") else "fsdp2"


def _told(name: str) -> bool:
    return os.environ.get(name, "false").lower() in ("1", "true", "yes")


__all__ = ["SHARDINGS", "take_over_sharding"]
