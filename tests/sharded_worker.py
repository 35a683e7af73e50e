"""What `test_sharded_backbone.py` runs in two processes: a sharded backbone beside the same one whole.

python -m torch.distributed.run --nproc_per_node 2 tests/sharded_worker.py BACKBONE
"""

import sys

import pytest
import torch
from accelerate import PartialState
from safetensors.torch import load_file

from rarec_hf import RARecForSequentialRecommendation, SASRecConfig, SASRecModel, load_backbone
from rarec_hf.attention_layout import Columns
from rarec_hf.backbone_fingerprint import weights_fingerprint
from rarec_hf.backbone_pass import run_backbone
from rarec_hf.joint_passes import SecondShardedBackboneError, finish_passes, is_sharded
from rarec_hf.processes import wait
from rarec_hf.sharded_backbone import ShardingError, load_sharded_backbone


def model_around(backbone) -> RARecForSequentialRecommendation:
    torch.manual_seed(0)
    encoder = SASRecModel(SASRecConfig(n_items=9, hidden_size=8, num_attention_heads=2, max_history=5))
    return RARecForSequentialRecommendation.from_backbone(backbone, encoder, score="dot_product")


def main(address: str) -> None:
    with pytest.raises(ShardingError, match="got one of 1"):
        load_sharded_backbone(address, PartialState())
    PartialState._reset_state()
    process = PartialState(cpu=True)
    spread = load_sharded_backbone(address, process, torch.float32)
    whole = load_backbone(address, dtype=torch.float32)
    assert is_sharded(spread) and not is_sharded(whole)
    assert not any(parameter.requires_grad for parameter in spread.parameters())
    assert weights_fingerprint(spread) == weights_fingerprint(whole)

    model, reference = model_around(spread), model_around(whole)
    assert not any(is_sharded(part) for name, part in model.named_children() if name != "language_model")
    assert model.spec == reference.spec

    # Processes have passes of their own: three here, none there
    ids = torch.tensor([[3, 5, 4, 6]])
    for number in range(3 * process.process_index):
        mine = (ids + number) % 7, Columns.text(torch.ones_like(ids))
        found, _ = run_backbone(model.backbone, model.spec, *mine)
        expected, _ = run_backbone(reference.backbone, reference.spec, *mine)
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
        assert_only_parts(spread, process)
    wait(process)  # takes part in the passes of the other
    if process.is_main_process:
        run_backbone(model.backbone, model.spec, ids, Columns.text(torch.ones_like(ids)))
    finish_passes()
    assert_only_parts(spread, process)

    with pytest.raises(SecondShardedBackboneError, match="in use already"):
        model_around(load_sharded_backbone(address, process, torch.float32))
    for refused in ({"include_backbone": True}, {}):
        with pytest.raises(ValueError, match="sharded over processes, and one of them saves"):
            model.save_pretrained(address + "/never", **refused)
    model.config.backbone_fingerprint = weights_fingerprint(spread)
    if process.is_main_process:  # nobody else is needed
        model.save_pretrained(address + "/slim")
        names = load_file(address + "/slim/model.safetensors").keys()
        assert names and not any(name.startswith("language_model") for name in names)
    wait(process)


def assert_only_parts(backbone, process) -> None:
    held = sum(parameter.to_local().numel() for parameter in backbone.parameters())
    assert held < sum(parameter.numel() for parameter in backbone.parameters()) / process.num_processes * 1.1


if __name__ == "__main__":
    main(sys.argv[1])
