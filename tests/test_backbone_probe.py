from __future__ import annotations

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BloomConfig,
    DeepseekV3Config,
    GPTNeoConfig,
    Lfm2Config,
    MambaConfig,
    MiniMaxConfig,
    OPTConfig,
    RobertaConfig,
)

from rarec_hf.attention_layout import Columns, Window
from rarec_hf.backbone_cache import CacheLayerSpec, LayerShape
from rarec_hf.backbone_pass import run_backbone
from rarec_hf.backbone_probe import BackboneRefused, base_model_of, measure_backbone

_SIZES = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
_GROUPED = {**_SIZES, "num_key_value_heads": 2}


def build(config):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def test_shapes_windows_and_positions_are_measured(make_backbone):
    spec = measure_backbone(make_backbone("gemma3"))
    assert spec.layers == (CacheLayerSpec(LayerShape(2, 8, 8)),) * 3
    assert spec.masks == (("sliding_attention", Window("sliding", 4)), ("full_attention", None))
    assert (spec.position_offset, spec.max_positions) == (0, 256)
    assert measure_backbone(make_backbone("gpt2")).shapes == dict.fromkeys(range(3), LayerShape(4, 8, 8))
    assert measure_backbone(make_backbone("mistral")).masks == ((None, Window("sliding", 4)),)
    assert dict(measure_backbone(make_backbone("llama4")).masks)["chunked_attention"] == Window("chunked", 4)


def test_keys_and_values_of_different_width():
    sizes = {"q_lora_rank": 8, "kv_lora_rank": 12, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8, "v_head_dim": 8}
    experts = {
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "n_group": 2,
        "topk_group": 1,
        "moe_intermediate_size": 16,
    }
    model = build(DeepseekV3Config(**_SIZES, **sizes, **experts, first_k_dense_replace=1))
    assert measure_backbone(model).shapes == dict.fromkeys(range(2), LayerShape(1, 12, 4))


@pytest.mark.parametrize("config", [RobertaConfig(**_SIZES | {"pad_token_id": 1}, is_decoder=True), OPTConfig(
    vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, ffn_dim=48, word_embed_proj_dim=32
)], ids=["roberta", "opt"])  # fmt: skip
def test_position_ids_start_where_the_backbone_lets_them(config):
    """RoBERTa counts from `padding_idx + 1`, OPT adds its own offset."""
    model = build(config)
    base, spec = base_model_of(model), measure_backbone(model)
    assert spec.position_offset == (2 if config.model_type == "roberta" else 0)
    ids = torch.tensor([[5, 9, 4, 30]])
    with torch.no_grad():
        ours, _ = run_backbone(base, spec, ids, Columns.text(torch.ones_like(ids)))
        torch.testing.assert_close(ours, base(input_ids=ids).last_hidden_state, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (
            MambaConfig(vocab_size=64, hidden_size=32, num_hidden_layers=2, state_size=4),
            "its forward leaves no keys and values",
        ),
        (BertConfig(**_SIZES), "a later token changes the states of an earlier one.*is_decoder=True"),
        (MiniMaxConfig(**_GROUPED, num_local_experts=2), "failed .ValueError: MiniMax uses cache of its own"),
    ],
    ids=lambda value: getattr(value, "model_type", ""),
)
def test_a_backbone_that_cannot_is_refused_by_type_and_reason(config, reason):
    with pytest.raises(BackboneRefused, match=f"Backbone type `{config.model_type}`.*{reason}.*Use a causal LM"):
        measure_backbone(build(config))


def test_what_a_type_cannot_do_is_recorded():
    hybrid = measure_backbone(build(Lfm2Config(**_GROUPED, layer_types=["conv", "full_attention"])))
    assert hybrid.layers[0] == CacheLayerSpec(None, linear_states=1) and list(hybrid.shapes) == [1]
    assert hybrid.equal_lengths and not hybrid.after_text and "linear layers" in hybrid.every_position
    without_positions = measure_backbone(build(BloomConfig(vocab_size=64, hidden_size=32, n_layer=2, n_head=4)))
    assert not without_positions.takes_positions and without_positions.equal_lengths
    both_ways = measure_backbone(build(BertConfig(**_SIZES)), bidirectional=True)
    assert "both directions" in both_ways.after_text and both_ways.every_position
    with pytest.raises(BackboneRefused, match="`bidirectional=True` was asked for, but no token sees a later one"):
        measure_backbone(build(BertConfig(**_SIZES, is_decoder=True)), bidirectional=True)


def test_a_window_inside_the_attention_limits_the_sequence():
    types = [[["global", "local"], 1]]
    config = GPTNeoConfig(
        vocab_size=64, hidden_size=32, num_layers=2, num_heads=4, attention_types=types, window_size=16
    )
    model = build(config)
    spec = measure_backbone(model)
    assert spec.max_positions == 16
    ids = torch.full((1, 17), 5)
    with pytest.raises(ValueError, match="17 positions.*exceed the 16"):
        run_backbone(base_model_of(model), spec, ids, Columns.text(torch.ones_like(ids)))


def test_a_backbone_without_weights_is_refused(make_backbone):
    with pytest.raises(ValueError, match="`llama` is on the meta device"):
        measure_backbone(make_backbone().to("meta"))


def test_measuring_leaves_weights_and_modes_alone(make_backbone):
    model = make_backbone("llama").train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    measure_backbone(model)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
