"""Options of the backbone: keywords that reach it, low precision, quantisation, compilation."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from benchmarks.backbones.checks import random_prompts, read, some_ids, text_pass, wrapped
from benchmarks.backbones.tiny import tiny_model
from rarec_hf import RARecForSequentialRecommendation
from rarec_hf.attention_layout import Columns
from rarec_hf.backbone_pass import run_backbone


@pytest.fixture
def slim(tmp_path):
    """A slim folder and the folder of its backbone."""
    backbone = tmp_path / "backbone"
    tiny_model("llama").save_pretrained(backbone)
    model = wrapped(AutoModelForCausalLM.from_pretrained(backbone), backbone_address=f"path:{backbone}")
    model.save_pretrained(tmp_path / "slim")
    return tmp_path / "slim", backbone


@pytest.mark.parametrize(
    "option",
    [
        {"dtype": torch.bfloat16},
        {"attn_implementation": "eager"},
        {"device_map": "cpu"},
        {"quantization_config": "given"},
        {"token": "secret"},
        {"cache_dir": "/nowhere"},
        {"local_files_only": True},
    ],
    ids=lambda option: next(iter(option)),
)
def test_options_reach_the_backbone(slim, monkeypatch, option):
    folder, backbone = slim
    given, load = {}, AutoModelForCausalLM.from_pretrained

    def spy(path, **options):
        given.update(options, path=path)
        return load(backbone, output_loading_info=True)

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", spy)
    RARecForSequentialRecommendation.from_pretrained(folder, **option)
    name, value = next(iter(option.items()))
    if name in ("token", "cache_dir"):  # they serve to find it, and this one lies in a folder
        assert given["path"] == str(backbone)
    else:
        assert given[name] == value


def test_options_take_effect(slim):
    folder, backbone = slim
    tiny_model("llama").to(torch.bfloat16).save_pretrained(backbone)  # fp32 values would be rounded twice, see there
    model = RARecForSequentialRecommendation.from_pretrained(folder, dtype=torch.float16, attn_implementation="eager")
    assert model.language_model.dtype == torch.float16
    assert model.backbone.config._attn_implementation == "eager"
    assert model.soft_prompts["user"].projector.weight.dtype == torch.float32


linear = pytest.param("qwen3_next", marks=pytest.mark.slow)  # fifteen seconds each without its kernels


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("model_type", ["llama", "gemma3_text", "gpt2", "deepseek_v3", linear])
def test_low_precision_backbones_carry_fp32_soft_prompts(model_type, dtype):
    """States near those of fp32, gradients in fp32 and finite."""
    full = wrapped(tiny_model(model_type))
    low = wrapped(tiny_model(model_type).to(dtype))
    low.soft_prompts.load_state_dict(full.soft_prompts.state_dict())
    ids, readout, vectors = some_ids(7), some_ids(2)[0], torch.randn(1, 1, 16)
    with torch.no_grad():
        one, other = (read(model, ids, readout, vectors) for model in (full, low))
    assert other.dtype == torch.float32
    assert (one - other).norm() < (0.2 if dtype == torch.bfloat16 else 0.05) * one.norm()
    (read(low, ids, readout, vectors) * torch.randn_like(one)).sum().backward()
    gradient = low.soft_prompts["user"].projector.weight.grad
    assert gradient.dtype == torch.float32 and bool(torch.isfinite(gradient).all()) and bool(gradient.any())


def test_quantisation_that_is_not_installed_says_so(slim):
    folder, _ = slim
    try:
        import bitsandbytes  # noqa: F401
    except ImportError:
        with pytest.raises(ImportError, match="bitsandbytes"):
            config = BitsAndBytesConfig(load_in_8bit=True)
            RARecForSequentialRecommendation.from_pretrained(folder, quantization_config=config)
    else:
        config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.float32)
        model = RARecForSequentialRecommendation.from_pretrained(folder, quantization_config=config)
        ids, vectors = some_ids(7), torch.randn(1, 1, 16)
        read(model, ids, some_ids(2)[0], vectors).sum().backward()
        assert bool(model.soft_prompts["user"].projector.weight.grad.any())


@pytest.mark.parametrize("model_type", ["llama", "qwen3", "gemma3_text"])
def test_the_backbone_compiles_with_soft_prompts_in_one_graph(model_type):
    """No graph break and the same states; masks and caches are made outside, once a batch."""
    model = wrapped(tiny_model(model_type))
    ids, prompts = some_ids(20), random_prompts(model.spec)
    with torch.no_grad():
        eager = text_pass(model, ids, prompts)
        graph = torch.compile(model.backbone, backend="eager", fullgraph=True)
        columns = Columns.text(torch.ones_like(ids), start=4)
        compiled, _ = run_backbone(graph, model.spec, ids, columns, [prompts])
    torch.testing.assert_close(compiled, eager, atol=1e-4, rtol=0)
