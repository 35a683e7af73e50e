"""What `benchmarks/speed.py` times: our steps and answers, and what they are compared with, on the same texts."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, DynamicCache, LlamaConfig, PreTrainedTokenizerFast, Qwen3Config

from benchmarks.overhead import SMOLLM2_135M
from rarec_hf import (
    PromptTemplates,
    RARecForSequentialRecommendation,
    RARecProcessor,
    SASRecConfig,
    SASRecModel,
    load_backbone,
)
from rarec_hf.training.stored_texts import StoredTexts

SHAPES = {
    "smollm2-135m": LlamaConfig(**SMOLLM2_135M),
    "qwen3-1.7b": Qwen3Config(
        vocab_size=151936, hidden_size=2048, intermediate_size=6144, num_hidden_layers=28, num_attention_heads=16,
        num_key_value_heads=8, head_dim=128, tie_word_embeddings=True,
    ),
    "tiny": LlamaConfig(
        vocab_size=2000, hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, tie_word_embeddings=True,
    ),
}  # fmt: skip
WORDS, OPENING, TITLE, TITLES, READOUT = 1000, 4, 10, 12, 4  # tokens: 4 + 12 * 10 of text, 4 of readout
TEXT_TOKENS = OPENING + TITLE * TITLES
BEAMS, GENERATED = 10, 4


@dataclass
class Setting:
    """
    Args:
        shape (`str`): a name of `SHAPES`, with random weights, or a backbone's address.
        dtype, device: of the backbone.
        batch (`int`): texts.
        soft_prompts (`int`): a text.
        n_items (`int`): of the catalogue.
    """

    shape: str
    dtype: torch.dtype
    device: str
    batch: int = 8
    soft_prompts: int = 8
    n_items: int = 23_000


def load(setting: Setting):
    if setting.shape in SHAPES:
        return AutoModelForCausalLM.from_config(SHAPES[setting.shape], dtype=setting.dtype).to(setting.device).eval()
    return load_backbone(setting.shape, dtype=setting.dtype).to(setting.device)


def processor_of(n_items: int) -> RARecProcessor:
    """A processor with a token a word, so that every text has the length that was asked for."""
    vocabulary = {f"w{n}": n for n in range(WORDS)} | {"-": WORDS, "</s>": WORDS + 1}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="</s>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", pad_token="</s>")
    words = torch.randint(0, WORDS, (n_items, TITLE - 1), generator=torch.Generator().manual_seed(0)).tolist()
    titles = [" ".join(f"w{word}" for word in title) for title in words]
    templates = PromptTemplates("w1 w2 w3 w4", " - ", " w5 w6 w7 w8", "", " - ", " w5 w6 w7 w8")
    return RARecProcessor(
        fast, [f"i{n}" for n in range(n_items)], titles, templates=templates, max_history_items=TITLES,
        history_block=TITLES // 2, max_text_tokens=TEXT_TOKENS,
    )  # fmt: skip


class Ours:
    """A model in one layout, and its batches."""

    def __init__(self, backbone, setting: Setting, position: str, alignment_weight: float = 0.0, score="dot_product"):
        torch.manual_seed(0)
        encoder = SASRecModel(SASRecConfig(n_items=setting.n_items, hidden_size=64, max_history=TITLES))
        self.model = RARecForSequentialRecommendation.from_backbone(
            backbone, encoder, soft_prompt_position=position, context_length=setting.soft_prompts - 1, score=score,
            alignment_weight=alignment_weight,
        ).to(setting.device)  # fmt: skip
        self.model.processor, self.setting = processor_of(setting.n_items), setting
        generator = torch.Generator().manual_seed(1)
        self.histories = torch.randint(0, setting.n_items, (setting.batch, TITLES), generator=generator).tolist()
        self.weights = torch.randn(backbone.config.hidden_size, generator=generator).to(setting.device)

    def user_step(self, histories=None, shared=False) -> Callable[[], None]:
        """Forward and backward of the users' side alone, which is what a PEFT step on the same texts compares with."""
        histories = self.histories if histories is None else histories
        texts = self.model.processor.shared_texts(histories) if shared else None
        inputs = self.model._inputs_to_device(self.model.processor.user_inputs(histories, TITLES, shared=texts))
        ids, mask, readout = (inputs[f"user_{name}"] for name in ("text_ids", "text_mask", "readout_ids"))
        assert ids.shape[1] == TEXT_TOKENS and len(readout) == READOUT, (ids.shape, readout.shape)
        rows, ends = inputs.get("user_text_rows"), inputs.get("user_text_ends")

        def step() -> None:
            self.model.train()
            self.model.zero_grad(set_to_none=True)
            with torch.no_grad():
                vectors = self.model.id_encoder.user_vectors(inputs["history"])
            read = self.model.read("user", ids, mask, readout, vectors, rows=rows, ends=ends)
            loss = (read.state * self.weights).sum()
            (loss if read.alignment_loss is None else loss + read.alignment_loss).backward()

        return step

    def store_texts(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        stored = StoredTexts(self.folder.name, self.model, progress=False)
        texts = [self.model.processor.user_text(history).ids for history in self.histories]
        stored.store(self.model, texts)
        self.model.stored_texts = stored

    def index(self) -> None:
        """Random item representations: what they are does not change the time of an answer."""
        width = self.model.score_head.width
        items = torch.randn(self.setting.n_items, width, generator=torch.Generator().manual_seed(2))
        self.model._catalogue = self.model.catalogue_of(items.to(self.setting.device))

    def answer(self, histories=None) -> Callable[[], None]:
        ids = [[f"i{n}" for n in history] for history in (self.histories if histories is None else histories)]
        return lambda: self.model.recommend(ids, k=10, batch_size=len(ids))


def peft_step(backbone, setting: Setting, ids: torch.Tensor) -> Callable[[], None]:
    """A training step of PEFT's prefix tuning on the same tokens, as its users run it: with the model's own loss."""
    from peft import PrefixTuningConfig, get_peft_model

    config = PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=setting.soft_prompts)
    model = get_peft_model(shallow_copy(backbone), config).to(setting.device)
    mask = torch.ones_like(ids)

    def step() -> None:
        model.train()
        model.zero_grad(set_to_none=True)
        model(input_ids=ids, attention_mask=mask, labels=ids).loss.backward()

    return step


def shallow_copy(backbone):
    """The same weights under another model object: PEFT changes `forward` and `requires_grad` of what it wraps."""
    memo = {id(p): p for p in backbone.parameters()} | {id(b): b for b in backbone.buffers()}
    return copy.deepcopy(backbone, memo)


def generate(backbone, ids: torch.Tensor) -> Callable[[], None]:
    """A list as generative recommenders make one: 10 beams of 4 tokens, the prompt's prefill computed once a text."""

    @torch.no_grad()
    def run() -> None:
        cache = DynamicCache(config=backbone.config)
        backbone(input_ids=ids[:, :-1], past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache.batch_repeat_interleave(BEAMS)
        backbone.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), past_key_values=cache, num_beams=BEAMS,
            num_return_sequences=BEAMS, max_new_tokens=GENERATED, min_new_tokens=GENERATED, do_sample=False,
            pad_token_id=WORDS + 1,
        )  # fmt: skip

    return run


def text_ids(ours: Ours) -> torch.Tensor:
    """Text and readout of the users' prompts, `(batch, 128)`."""
    inputs = ours.model._inputs_to_device(ours.model.processor.user_inputs(ours.histories, TITLES))
    readout = inputs["user_readout_ids"].expand(len(ours.histories), -1)
    return torch.cat([inputs["user_text_ids"], readout], 1)


__all__ = ["SHAPES", "TEXT_TOKENS", "TITLES", "Ours", "Setting", "generate", "load", "peft_step", "text_ids"]
