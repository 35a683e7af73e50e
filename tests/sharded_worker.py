"""What `test_sharded_backbone.py` runs in two processes: a sharded backbone beside the same one whole.

python -m torch.distributed.run --nproc_per_node 2 tests/sharded_worker.py BACKBONE fsdp2|zero3
"""

import random
import sys

import pytest
import torch
from accelerate import PartialState
from safetensors.torch import load_file
from transformers import DynamicCache

from rarec_hf import RARecForSequentialRecommendation, SASRecConfig, SASRecModel, load_backbone
from rarec_hf.attention_layout import Columns
from rarec_hf.backbone_fingerprint import weights_fingerprint
from rarec_hf.backbone_pass import run_backbone
from rarec_hf.joint_passes import SecondShardedBackboneError, finish_passes, is_sharded
from rarec_hf.processes import wait
from rarec_hf.sharded_backbone import ShardingError, load_sharded_backbone
from rarec_hf.weight_parts import gathered, part_here
from rarec_hf.zero3_backbone import load_zero3_backbone


def model_around(backbone) -> RARecForSequentialRecommendation:
    torch.manual_seed(0)
    encoder = SASRecModel(SASRecConfig(n_items=9, hidden_size=8, num_attention_heads=2, max_history=5))
    return RARecForSequentialRecommendation.from_backbone(backbone, encoder, score="dot_product")


def main(address: str, by: str) -> None:
    load = {"fsdp2": load_sharded_backbone, "zero3": load_zero3_backbone}[by]
    with pytest.raises(ShardingError, match="got one of 1"):
        load(address, PartialState())
    PartialState._reset_state()
    process = PartialState(cpu=True)
    spread = load(address, process, torch.float32)
    whole = load_backbone(address, dtype=torch.float32)
    assert is_sharded(spread) and not is_sharded(whole)
    assert not any(parameter.requires_grad for parameter in spread.parameters())
    assert weights_fingerprint(spread) == weights_fingerprint(whole)
    for one, other in zip(spread.parameters(), whole.parameters(), strict=True):
        assert gathered(one).equal(other)
    assert load(address, process, torch.bfloat16).dtype == torch.bfloat16
    check_passes(spread, whole, process, exact=by == "fsdp2")

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
        model_around(load(address, process, torch.float32))
    for refused in ({"include_backbone": True}, {}):
        with pytest.raises(ValueError, match="sharded over processes, and one of them saves"):
            model.save_pretrained(address + "/never", **refused)
    model.config.backbone_fingerprint = weights_fingerprint(spread)
    if process.is_main_process:  # nobody else is needed
        model.save_pretrained(address + "/slim")
        names = load_file(address + "/slim/model.safetensors").keys()
        assert names and not any(name.startswith("language_model") for name in names)
    wait(process)


def check_passes(spread, whole, process, exact: bool) -> None:
    """Passes with and without gradient in any order, several before one backward pass; processes with other texts."""
    order, config = random.Random(1), whole.config
    heads, width = config.num_key_value_heads, config.hidden_size // config.num_attention_heads

    def run(backbone, ids, seed: int, grad: bool):
        torch.manual_seed(seed)
        prefix = [torch.randn(len(ids), heads, 2, width) for _ in range(2 * config.num_hidden_layers)]
        cache = DynamicCache()
        for layer in range(config.num_hidden_layers):
            cache.update(*(part.requires_grad_(grad) for part in prefix[2 * layer : 2 * layer + 2]), layer)
        with torch.set_grad_enabled(grad):
            mask = torch.ones(len(ids), 2 + ids.shape[1])
            return backbone.base_model(ids, past_key_values=cache, attention_mask=mask).last_hidden_state, prefix

    for step in range(12):
        generator = torch.Generator().manual_seed(10 * step + process.process_index)
        ids = torch.randint(3, 200, (2, 4 + process.process_index), generator=generator)
        n_passes, grad, found = order.randrange(1, 4), order.random() < 0.5, []
        for backbone in (spread, whole):
            passes = [run(backbone, ids, seed, grad) for seed in range(n_passes)]
            if grad:
                sum((states**3).sum() for states, _ in passes).backward()
            gradients = [part.grad for _, prefix in passes for part in prefix] if grad else []
            found.append(([states.detach() for states, _ in passes], gradients))
        torch.testing.assert_close(found[0][0], found[1][0], rtol=0, atol=0)
        tolerance = {"rtol": 0, "atol": 0} if exact else {"rtol": 1e-4, "atol": 1e-5}
        torch.testing.assert_close(found[0][1], found[1][1], **tolerance)
        assert_only_parts(spread, process)


def assert_only_parts(backbone, process) -> None:
    held = sum(part_here(parameter).numel() for parameter in backbone.parameters())
    whole = sum(getattr(parameter, "ds_numel", parameter.numel()) for parameter in backbone.parameters())
    assert held < whole / process.num_processes * 1.1
    for parameter in backbone.parameters():
        assert not hasattr(parameter, "ds_tensor") or not parameter.data.numel()  # nor is anything gathered


if __name__ == "__main__":
    main(*sys.argv[1:])
