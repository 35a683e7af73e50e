"""Tiny models with strong random weights, a byte-level tokenizer with control tokens, a catalogue of a dozen items."""

from __future__ import annotations

import pytest
import torch
from hub_client import local_hub
from tests_support import redraw, save_inputs
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    Llama4TextConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

from rarec_hf import PromptTemplates, RARecForSequentialRecommendation, RARecProcessor, SASRecConfig, SASRecModel

VOCABULARY = 272  # 256 bytes and a few control tokens
N_ITEMS = 12
CONTROL_TOKENS = ("<s>", "</s>", "<|im_start|>", "<|im_end|>")

_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "bos_token_id": 256,
    "eos_token_id": 257,
    "pad_token_id": 257,
}
_WINDOWED = ["sliding_attention", "full_attention", "sliding_attention"]
_CONFIGS = {
    "llama": lambda: LlamaConfig(**_SIZES),
    "qwen3": lambda: Qwen3Config(**_SIZES),
    "gemma3": lambda: Gemma3TextConfig(**_SIZES, sliding_window=4, layer_types=_WINDOWED, query_pre_attn_scalar=8),
    "mistral": lambda: MistralConfig(**_SIZES, sliding_window=4),  # a window in every layer
    "llama4": lambda: Llama4TextConfig(
        **_SIZES, intermediate_size_mlp=48, num_local_experts=2, attention_chunk_size=4,
        layer_types=["chunked_attention", "full_attention", "chunked_attention"],
    ),
    "gpt2": lambda: GPT2Config(
        vocab_size=VOCABULARY, n_embd=32, n_layer=3, n_head=4, n_positions=256, bos_token_id=256, eos_token_id=257,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    ),
}  # fmt: skip


@pytest.fixture
def make_backbone():
    """`make_backbone(kind, attention="sdpa", seed=0, **config)`: a tiny causal LM in evaluation mode."""

    def make(kind: str = "llama", attention: str = "sdpa", seed: int = 0, **overrides):
        config = _CONFIGS[kind]()
        for name, value in overrides.items():
            assert hasattr(config, name), name
            setattr(config, name, value)
        model = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
        redraw(model, seed)
        return model.eval()

    return make


@pytest.fixture
def make_encoder():
    """`make_encoder(seed=0, **config)`: a tiny SASRec over the catalogue."""

    def make(seed: int = 0, **overrides):
        fields = {"n_items": N_ITEMS, "hidden_size": 16, "max_history": 8, **overrides}
        model = SASRecModel(SASRecConfig(**fields))
        redraw(model, seed, std=0.3)
        return model.eval()

    return make


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level, no merges: any text is written in bytes, and what stands for a control token is one id above 255."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE(vocab={byte: i for i, byte in enumerate(alphabet)}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="</s>",
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
    )  # fmt: skip
    fast.add_tokens(
        [AddedToken("<think>", special=False)]
    )  # a control token that is not declared special, as in Qwen3
    return fast


@pytest.fixture
def make_processor(tokenizer):
    """`make_processor(titles=None, **arguments)`: items `i0`, `i1`, ... with short titles and a short wording."""

    def make(titles=None, **arguments):
        titles = [f"film {'abcdefghijkl'[n] * (1 + n % 4)}" for n in range(N_ITEMS)] if titles is None else titles
        fields = {
            "templates": PromptTemplates("Seen:", "\n-", "\nNext:", "", "\n{name}:", "\nLike:"),
            "max_text_tokens": 64,
            **arguments,
        }
        return RARecProcessor(tokenizer, [f"i{n}" for n in range(len(titles))], titles, **fields)

    return make


@pytest.fixture
def make_model(make_backbone, make_encoder, make_processor):
    """`make_model(kind="llama", indexed=False, **config)`: a model with processor, texts and strong soft prompts."""

    def make(kind: str = "llama", indexed: bool = False, backbone=None, encoder=None, **config):
        torch.manual_seed(0)
        fields = {"score_dim": 8, "text_dim": 16, "context_length": 2, **config}
        model = RARecForSequentialRecommendation.from_backbone(
            backbone or make_backbone(kind), encoder or make_encoder(), **fields
        )
        redraw(model.soft_prompts, seed=5, std=0.4)
        model.processor = make_processor()
        model.prepare_texts(range(N_ITEMS), progress=False)
        if indexed:
            model.index_catalogue(progress=False)
        return model

    return make


@pytest.fixture
def trained(make_model):
    """A function that gives a model whose every part has a say in the score, as after training."""

    def make(**arguments):
        indexed = arguments.pop("indexed", True)
        model = make_model(**arguments)
        redraw(model.score_head, seed=7, std=0.3)
        if indexed:
            model.index_catalogue(progress=False)
        return model

    return make


@pytest.fixture
def make_batch(make_processor):
    """`make_batch(histories, items, targets)`: inputs of a forward."""

    def make(histories=((1, 2, 3), (4,), (5, 6, 7, 8)), items=(3, 5, 9, 2), targets=(1, 3, 2), processor=None):
        processor = processor or make_processor()
        batch = {**processor.user_inputs(histories, 8), **processor.item_inputs(items)}
        return batch | ({} if targets is None else {"targets": torch.tensor(targets)})

    return make


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Interactions (csv), items (jsonl) and a tiny backbone folder."""
    folder = tmp_path_factory.mktemp("inputs")
    save_inputs(folder)
    return folder


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A Hub on this machine that `huggingface_hub` and `transformers` talk to; see `hub_client`."""
    (tmp_path / "hub").mkdir()
    with local_hub(monkeypatch, tmp_path / "hub") as server:
        yield server
