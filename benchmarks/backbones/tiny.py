"""A tiny random causal LM of any type that Transformers knows, made from its own config class."""

from __future__ import annotations

import math

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

ALL_TYPES = tuple(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
VOCABULARY, WIDTH, LAYERS, HEADS, KV_HEADS, HEAD_DIM = 256, 64, 4, 4, 2, 16
WINDOW = 32  # of every type that has one

# What a size field becomes, wherever a config has it as a whole number
_SIZES = [
    (
        LAYERS,
        "num_hidden_layers n_layer n_layers num_layers encoder_layers decoder_layers num_decoder_layers "
        "num_encoder_layers num_blocks",
    ),
    (
        WIDTH,
        "hidden_size n_embd d_model embedding_dim emb_dim embedding_size input_embedding_size "
        "output_embedding_size dim_model lru_width attention_hidden_size dim_model_base index_topk",
    ),
    (
        HEADS,
        "num_attention_heads n_head n_heads num_heads attention_heads encoder_attention_heads "
        "decoder_attention_heads num_decoder_attention_heads num_encoder_attention_heads swa_num_attention_heads "
        "num_query_groups index_n_heads hc_lowrank num_experts num_local_experts n_routed_experts moe_num_experts "
        "linear_num_value_heads linear_num_heads zero_expert_num prompt_length o_groups",
    ),
    (
        KV_HEADS,
        "num_key_value_heads num_kv_heads swa_num_key_value_heads num_global_key_value_heads "
        "num_experts_per_tok num_experts_per_token moe_topk moe_k linear_num_key_heads n_groups conv_L_cache",
    ),
    (
        HEAD_DIM,
        "head_dim kv_channels attention_head_size d_head dim_head swa_head_dim v_head_dim qk_nope_head_dim "
        "global_head_dim attention_head_dim linear_key_head_dim linear_value_head_dim linear_head_dim index_head_dim "
        "d_rel gated_norm_rank adapter_rank laurel_rank ple_embed_dim kv_lora_rank",
    ),
    (
        8,
        "qk_rope_head_dim rotary_dim mamba_d_state state_size ssm_state_size mamba_dt_rank time_step_rank chunk_size "
        "mamba_chunk_size router_hidden_size position_bias_num_buckets block_size hidden_size_per_layer_input",
    ),
    (24, "qk_head_dim"),
    (
        128,
        "intermediate_size ffn_dim encoder_ffn_dim decoder_ffn_dim dff dim_ff d_inner ffn_hidden_size "
        "feed_forward_size intermediate_size_mlp dense_intermediate_size",
    ),
    (
        WINDOW,
        "moe_intermediate_size shared_expert_intermediate_size shared_intermediate_size expert_ffn_hidden_size "
        "shared_experts_intermediate_size moe_shared_expert_intermediate_size q_lora_rank o_lora_rank "
        "pronunciation_embed_dim shape_embed_dim sliding_window sliding_window_size attention_window_size "
        "attention_chunk_size window_size local_attention local_attention_window_len",
    ),
    (
        1,
        "n_group topk_group num_expert_group first_k_dense_replace num_dense_layers num_nextn_predict_layers "
        "moe_layer_start_index",
    ),
    (
        VOCABULARY,
        "vocab_size vocab_size_per_layer_input shape_vocab_size pronunciation_vocab_size "
        "unpadded_vocab_size encoder_hash_byte_group_vocab ngram_vocab_size_base max_position_embeddings n_positions "
        "n_ctx max_seq_len context_length model_max_length max_target_positions max_source_positions "
        "position_bias_max_distance rel_extent original_max_position_embeddings",
    ),
]
SIZES = {name: size for size, names in _SIZES for name in names.split()}
TOKEN_IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
TYPE_LISTS = (
    "layer_types", "mlp_layer_types", "layers_block_type", "attention_layers", "block_types", "attn_layers",
    "indexer_types",
)  # fmt: skip
DROPPED = object()  # leave the field to the config's own default
_TWO_KINDS = ["linear_attention", "full_attention"] * 2
_HYBRID = ["linear_attention", "hybrid"] * 2
_MROPE = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 2, 2]}
_INDEXER = {
    "indexer_n_heads": 2, "indexer_kv_heads": 1, "indexer_head_dim": HEAD_DIM, "indexer_budget": 64,
    "indexer_compress_ratio": 4, "ngram_vocab_size_base": DROPPED, "eos_token_id": 2, "head_dim": HEAD_DIM,
}  # fmt: skip
_HUNYUAN = {"head_dim": HEAD_DIM}

# Fields that a type needs to be consistent at this size
CORRECTIONS: dict[str, dict] = {
    "bamba": {"attn_layer_indices": [1, 3], "mamba_n_heads": 8, "mamba_d_head": 16, "mamba_n_groups": 1},
    "cohere_compass_text": {"rope_parameters": {"full_attention": _MROPE, "sliding_attention": _MROPE}},
    "dbrx": {
        "attn_config": {"kv_n_heads": KV_HEADS, "attn_pdrop": 0.0, "rope_theta": 1e4, "clip_qkv": 8.0},
        "ffn_config": {"ffn_hidden_size": 32, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "deepseek_v2": {"num_experts_per_tok": 2, "head_dim": DROPPED},
    "dots1": {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1, "first_k_dense_replace": 1},
    "dots3_note": {
        "vision_config": {"adapter_in_dim": WIDTH, "adapter_out_dim": WIDTH},
        "audio_config": {"adapter_input_size": WIDTH, "adapter_out_dim": WIDTH},
    },
    "gemma4_assistant": {"text_config": {"hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 0}},
    "gpt_neo": {"attention_types": [[["global", "local"], LAYERS // 2]], "window_size": WINDOW},
    "granitemoehybrid": {"layer_types": _TWO_KINDS, "mamba_n_heads": 8, "mamba_d_head": 16},
    "hunyuan_v1_dense": _HUNYUAN,
    "hunyuan_v1_moe": _HUNYUAN,
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "layer_types": DROPPED, "layers_block_type": DROPPED},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "longcat_flash": {"head_dim": 8},
    "mamba2": {"num_heads": 4, "head_dim": 32, "n_groups": 1},
    "ministral": _HUNYUAN,
    "mpt": {"attn_config": {"attn_pdrop": 0}},
    "nemotron": {"head_dim": HEAD_DIM, "num_key_value_heads": KV_HEADS},
    "qwen4_exp": {"text_config": _INDEXER},
    "qwen4_exp_text": _INDEXER,
    "reformer": {"axial_pos_embds_dim": [32, 32], "axial_pos_shape": [16, 16]},
    "xlstm": {"hidden_size": 128, "embedding_dim": 128, "mlstm_round_up_to_multiple_of": 4},
    "xmod": {"default_language": "en_XX"},
    "zamba": {"attention_hidden_size": DROPPED, "attention_head_dim": 32, "layers_block_type": _HYBRID},
    "zamba2": {
        "attention_hidden_size": DROPPED, "attention_head_dim": DROPPED, "mamba_headdim": DROPPED,
        "n_mamba_heads": 8, "kv_channels": DROPPED, "hybrid_layer_ids": DROPPED, "layers_block_type": _HYBRID,
        "num_key_value_heads": HEADS,
    },
    "zaya": {"num_experts_per_tok": 1},
}  # fmt: skip


def tiny_config(model_type: str, **fields) -> PreTrainedConfig:
    """A config of the type with every size small, dropout off, windows of `WINDOW`; `fields` override."""
    made = _shrunk(CONFIG_MAPPING[model_type])
    _override(made, {**CORRECTIONS.get(model_type, {}), **fields})
    error: Exception | None = None
    for dropped in ((), ("layer_types",), ("mlp_layer_types",), TYPE_LISTS):
        try:
            return CONFIG_MAPPING[model_type](**{k: v for k, v in made.items() if k not in dropped})
        except Exception as problem:  # lists that no longer fit the number of layers
            error = error or problem
    raise error


def tiny_model(model_type: str, attention: str | None = None, seed: int = 0, **fields) -> PreTrainedModel:
    """A model of the type with weights so strong that a dropped soft prompt shows."""
    options = {"attn_implementation": attention} if attention else {}
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(tiny_config(model_type, **fields), dtype=torch.float32, **options)
    _redraw(model, seed)
    return model.eval().requires_grad_(False)


def _override(made: dict, fields: dict) -> None:
    for name, value in fields.items():
        if value is DROPPED:
            made.pop(name, None)
        elif isinstance(value, dict) and isinstance(made.get(name), dict):
            _override(made[name], value)
        else:
            made[name] = {k: v for k, v in value.items() if v is not DROPPED} if isinstance(value, dict) else value


def _defaults(config_class: type) -> dict:
    try:
        return config_class().to_dict()
    except Exception:  # some need arguments: the class's own fields then
        fields: dict = {}
        for base in config_class.__mro__:
            for name, value in vars(base).items():
                if not name.startswith("_") and not callable(value) and not isinstance(value, (property, classmethod)):
                    fields.setdefault(name, value)
        return fields


def _shrunk(config_class: type, depth: int = 0) -> dict:
    defaults, made = _defaults(config_class), {}
    latent = bool(defaults.get("kv_lora_rank"))
    parts = getattr(config_class, "sub_configs", None) or {}
    for name, value in defaults.items():
        if name in parts and isinstance(value, dict):
            if depth < 3:
                part = value.get("model_type")
                try:
                    made[name] = _shrunk(CONFIG_MAPPING[part] if part in CONFIG_MAPPING else parts[name], depth + 1)
                except Exception:  # a part that cannot be made alone keeps its defaults
                    continue
                if part:
                    made[name]["model_type"] = part
        elif (size := _small(name, value, latent)) is not None:
            made[name] = size
    if defaults.get("pad_token_id", 0) is None:
        made["pad_token_id"] = 0
    if "is_decoder" in defaults and depth == 0:
        made["is_decoder"] = True
    if "use_cache" in defaults:
        made["use_cache"] = True
    return made


def _small(name: str, value, latent: bool):
    """The small value of one field, or None to leave it alone."""
    if isinstance(value, bool):
        return None
    if ("drop" in name and isinstance(value, float)) or name in ("router_jitter_noise", "input_jitter_noise"):
        return 0.0
    if name in TYPE_LISTS and isinstance(value, (list, tuple)) and value:
        kinds = list(dict.fromkeys(value))
        return [kinds[i % len(kinds)] for i in range(LAYERS)]
    if name.endswith("_token_id") and isinstance(value, int):
        return TOKEN_IDS.get(name, 3)
    if name == "eos_token_id" and isinstance(value, list):
        return [2]
    if name == "num_kv_shared_layers" and isinstance(value, int) and value > 0:
        return 2
    if name not in SIZES or not isinstance(value, int) or value == 0:
        return None
    if latent and name in ("head_dim", "qk_head_dim"):
        return None
    if name in ("num_key_value_heads", "num_kv_heads"):
        return HEADS if latent else min(value, KV_HEADS)
    return SIZES[name]


def _redraw(model: PreTrainedModel, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    kept = ("a_log", "dt_bias", "dt_proj", ".d", "x_proj")  # state-space parameters are only stable as initialised
    linear = ("mamba", "mixer", "ssm", "linear_attn", "a_log")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            low = name.lower()
            if not parameter.is_floating_point() or (
                parameter.dim() < 3 and any(k in low for k in kept) and any(k in low for k in linear)
            ):
                continue
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() >= 2:
                strength = 3.0 if "emb" in low or "wte" in low else 1.0
                parameter.copy_(strength * noise / math.sqrt(max(parameter.shape[-1], 1)))
            elif any(part in low for part in ("norm", "ln", "bias")):
                parameter.add_(0.05 * noise)
        for module in model.modules():
            if isinstance(module, torch.nn.Embedding) and module.padding_idx is not None:
                module.weight[module.padding_idx] = 0.0  # as loading leaves it


__all__ = ["ALL_TYPES", "VOCABULARY", "WINDOW", "tiny_config", "tiny_model"]
