"""
Types of causal LMs, each with the checks of `benchmarks/backbones`: a fast choice here, all of them under `slow`.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from benchmarks.backbones import checks
from benchmarks.backbones.checks import NOT, YES, check_type, wrapped
from benchmarks.backbones.tiny import ALL_TYPES, tiny_model
from rarec_hf.attention_layout import Columns
from rarec_hf.backbone_pass import run_backbone
from rarec_hf.backbone_probe import BackboneRefused
from rarec_hf.segments import Segment

# One type or two for every mechanism
FAST = (
    "llama", "qwen3", "gpt_bigcode",  # grouped, normed, one key-value head
    "gemma3_text", "gpt_oss", "mistral", "modernbert-decoder", "moshi",  # sliding windows, among full layers or alone
    "llama4_text", "gpt_neo",  # chunks; a window inside the attention
    "deepseek_v3", "glm_moe_dsa", "dots3_note_text", "longcat_flash",  # latents, indexers, several caches a block
    "gemma4_text", "mimo_v2_flash",  # shapes that differ by layer
    "lfm2_moe", "jamba", "qwen3_next", "falcon_h1", "zamba", "inkling_text",  # hybrids
    "gpt2", "opt", "roberta", "bert", "xglm",  # absolute positions and their offsets
    "bloom", "mpt", "bart", "roformer",  # ALiBi, no `position_ids`
    "mllama", "git", "hrm_text",  # layers without keys, padding in the cache, layers without gradient
)  # fmt: skip
REFUSED = {
    "mamba": "no keys and values", "minimax": "cache of its own", "cpmant": "keys of shape",
    "recurrent_gemma": "padded row", "qwen4_exp_text": "positions that a soft prompt does not have",
    "deepseek_v4": "no rule here", "prophetnet": "input_ids",
}  # fmt: skip


@pytest.mark.parametrize("model_type", FAST)
def test_a_type_of_every_mechanism(model_type):
    result = check_type(model_type)
    assert result.status == "accepted", result.reason
    without_reference = ("inkling_text",)
    assert result.checks["exact"] in ("attention function", YES) or model_type in without_reference
    assert result.checks["padding"] == YES
    assert result.checks["gradients"] == YES or model_type == "hrm_text"
    if model_type in ("gemma3_text", "gpt_oss", "mistral", "modernbert-decoder", "llama4_text", "inkling_text"):
        assert result.checks["windows"] == YES
    if model_type in ("llama", "gemma3_text", "gpt2", "bert"):
        assert set(result.checks.values()) <= {YES, NOT, result.checks["layers"]}


@pytest.mark.parametrize("model_type", REFUSED)
def test_what_cannot_is_refused_at_construction(model_type):
    result = check_type(model_type, only=())
    assert result.status == "refused" and REFUSED[model_type] in result.reason


@pytest.mark.slow
def test_every_type():
    results = {model_type: check_type(model_type) for model_type in ALL_TYPES}
    wrong = {name: r.reason for name, r in results.items() if r.status == "wrong"}
    assert not wrong
    assert sum(r.status == "accepted" for r in results.values()) >= 167


def test_the_exactness_check_fails_for_a_dropped_soft_prompt(monkeypatch):
    """The checks above would be worth nothing if they passed without soft prompts."""
    honest = checks.run_backbone

    def forgetful(base, spec, ids, columns, past=(), **options):
        return honest(base, spec, ids, columns, **options)

    monkeypatch.setattr(checks, "run_backbone", forgetful)
    result = check_type("llama", only=("exact", "after_text"))
    assert result.status == "wrong" and "soft prompts against the reference" in result.reason
    assert result.checks["after_text"].startswith("WRONG")


def test_after_text_is_refused_at_construction_where_it_cannot_be():
    lm = tiny_model("jamba")
    with pytest.raises(BackboneRefused, match="`jamba` cannot read soft prompts after the text.*'before_text'"):
        wrapped(lm, soft_prompt_position="after_text")


def test_more_than_sparse_attention_sees_is_refused():
    model = wrapped(tiny_model("glm_moe_dsa"))
    ids = torch.full((1, 80), 7)
    with pytest.raises(ValueError, match="exceed the 64 that the backbone's sparse attention sees"):
        run_backbone(model.backbone, model.spec, ids, Columns.text(torch.ones_like(ids)))


def test_flash_attention_that_would_hide_the_soft_prompts_is_refused():
    """Its kernels keep the window to themselves and take no mask; within the window it may run."""
    model = wrapped(tiny_model("gemma3_text"))
    model.backbone.config._attn_implementation = "flash_attention_2"
    ids = torch.full((1, 40), 7)
    with pytest.raises(ValueError, match="'flash_attention_2'.*hide the soft prompts.*'sdpa'"):
        run_backbone(model.backbone, model.spec, ids, Columns.text(torch.ones_like(ids)))


# both directions -----------------------------------------------------------------------------------------------------

BERT_TYPES = ["bert", "roberta", "electra", "ernie", "big_bird", "megatron-bert", "xlm-roberta", "roformer"]


@pytest.mark.parametrize("model_type", BERT_TYPES)
@torch.no_grad()
def test_bidirectional_backbones(model_type):
    """Every token reads the soft prompts and the whole text, and padding is not read."""
    lm = tiny_model(model_type, is_decoder=False)
    with pytest.raises(BackboneRefused, match="is_decoder=True"):
        wrapped(lm)
    model = wrapped(lm, bidirectional=True)
    ids = checks.some_ids(7)
    prompts = checks.random_prompts(model.spec)
    states = checks.text_pass(model, ids, prompts)
    other = ids.clone()
    other[0, -1] = 77
    changed = (checks.text_pass(model, other, prompts) - states).abs().amax(-1)
    assert changed[0].min() > 1e-3  # the first token reads the last
    halved = Segment(prompts.columns, {i: (k, 0.5 * v) for i, (k, v) in prompts.layers.items()})
    assert (checks.text_pass(model, ids, halved) - states).abs().amax(-1).min() > 1e-3
    assert checks.padding(model, model_type) == YES


def test_bidirectional_goes_with_before_text_and_with_types_that_can():
    lm = tiny_model("bert", is_decoder=False)
    with pytest.raises(Exception, match="soft_prompt_position='before_text'"):
        wrapped(lm, bidirectional=True, soft_prompt_position="after_text")
    with pytest.raises(BackboneRefused, match="no token sees a later one"):
        wrapped(tiny_model("llama"), bidirectional=True)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_bert_checkpoint_is_loaded_in_the_direction_asked_for(tmp_path, bidirectional):
    from rarec_hf import RARecForSequentialRecommendation, load_backbone

    tiny_model("bert", is_decoder=False).save_pretrained(tmp_path / "bert")
    lm = load_backbone(str(tmp_path / "bert"), bidirectional=bidirectional)
    assert lm.config.is_decoder is not bidirectional
    model = wrapped(lm, bidirectional=bidirectional, backbone_address=f"path:{tmp_path / 'bert'}")
    model.save_pretrained(tmp_path / "slim")
    again = RARecForSequentialRecommendation.from_pretrained(tmp_path / "slim")
    vectors, ids = torch.randn(1, 1, 16), checks.some_ids(5)
    with torch.no_grad():
        one, other = (checks.read(m, ids, checks.some_ids(2)[0], vectors) for m in (model, again))
    assert torch.equal(one, other)


# the code ------------------------------------------------------------------------------------------------------------


def test_the_forward_path_holds_no_model_names():
    """Only docstrings and comments may name types; code decides from what was measured and from config properties."""
    names = {re.escape(name) for name in ALL_TYPES if len(name) > 2} | {"Llama", "Gemma", "Qwen", "Bert", "GPT"}
    pattern = re.compile(rf"\b({'|'.join(sorted(names, key=len, reverse=True))})\b")
    package = Path(__file__).parent.parent / "rarec_hf"
    files = (
        "attention_layout", "backbone_cache", "backbone_pass", "backbone_probe", "reading", "soft_prompt",
        "modeling_rarec", "activation_checkpointing", "recommendation", "scoring",
    )  # fmt: skip
    for file in files:
        found = [(line, m) for line, code in code_lines(package / f"{file}.py") for m in pattern.findall(code)]
        assert not found, f"{file}.py names models: {found}"


def code_lines(path: Path):
    """Lines without docstrings, comments and the text of messages that have a blank in them."""
    import io
    import tokenize

    for token in tokenize.generate_tokens(io.StringIO(path.read_text("utf-8")).readline):
        is_text = token.type == tokenize.COMMENT or (token.type == tokenize.STRING and " " in token.string)
        if not is_text:
            yield token.start[0], token.string
