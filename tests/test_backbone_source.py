from __future__ import annotations

import hashlib
import json
import os
import socket
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import constants, get_hf_file_metadata
from huggingface_hub.errors import RepositoryNotFoundError
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from rarec_hf import backbone_source, backbone_wheel
from rarec_hf.backbone_source import (
    DEFAULT_BACKBONE,
    BackboneNotFoundError,
    BackboneSource,
    load_backbone,
    load_tokenizer,
    resolve_backbone,
    weights_fingerprint,
)
from rarec_hf.backbone_wheel import Wheel, converted_folder

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def tiny_llama(seed: int = 0, **kwargs) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    return LlamaForCausalLM(LlamaConfig(vocab_size=300, num_key_value_heads=2, **sizes, **kwargs))


@pytest.fixture(autouse=True)
def empty_caches(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def probe(monkeypatch):
    """Replaces the one question to the Hub: `probe.answer` is raised, or returned as the commit; counts the calls."""

    class Probe:
        answer: Exception | str | None = OSError("no network")
        calls = 0

        def __call__(self, url, token=None, timeout=None):
            self.calls += 1
            if isinstance(self.answer, Exception):
                raise self.answer
            return type("Metadata", (), {"commit_hash": self.answer})()

    replacement = Probe()
    monkeypatch.setattr(backbone_source, "get_hf_file_metadata", replacement)
    return replacement


@pytest.fixture
def folder(tmp_path):
    tiny_llama().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def write_gguf(path: Path, model: LlamaForCausalLM) -> None:
    """The model as an F32 GGUF file with a byte-level BPE tokenizer, `<|im_end|>` being both pad and end."""
    gguf = pytest.importorskip("gguf")
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(64)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    letters = [chr(code) for code in range(33, 127)]
    tokens = ["<unk>", "<|im_start|>", "<|im_end|>", *letters, "Ġ", "ab"]
    tokens += [f"<extra_{index}>" for index in range(config.vocab_size - len(tokens))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3] + [1] * (len(tokens) - 3))
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_chat_template("{% for message in messages %}{{ message['content'] }}{% endfor %}")
    names = {
        "model.embed_tokens": "token_embd",
        "model.norm": "output_norm",
        "lm_head": "output",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
        "model.layers": "blk",
    }
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, tensor in model.state_dict().items():
        for part, count in heads.items():
            if part in name:  # GGUF interleaves the two rotary halves of a head
                tensor = tensor.view(count, 2, config.head_dim // 2, -1).transpose(1, 2).reshape(tensor.shape)
        for old, new in names.items():
            name = name.replace(old, new)
        writer.add_tensor(name, tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """An installed distribution that carries a GGUF of `tiny_llama()`, known as the wheel of the default backbone."""
    site = tmp_path / "site"
    (site / "tiny_wheel").mkdir(parents=True)
    (site / "tiny_wheel-1.0.dist-info").mkdir()
    (site / "tiny_wheel-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: tiny-wheel\nVersion: 1.0\n"
    )
    (site / "tiny_wheel" / "__init__.py").write_text("raise RuntimeError('must not be imported')\n")
    gguf = site / "tiny_wheel" / "tiny.F32.gguf"
    write_gguf(gguf, tiny_llama())
    monkeypatch.syspath_prepend(str(site))
    digest = hashlib.sha256(gguf.read_bytes()).hexdigest()
    wheel = Wheel(distribution="tiny-wheel", version="1.0", file="tiny_wheel/tiny.F32.gguf", sha256=digest)
    monkeypatch.setattr(backbone_wheel, "WHEELS", {DEFAULT_BACKBONE: wheel})
    monkeypatch.setattr(backbone_source, "WHEELS", {DEFAULT_BACKBONE: wheel})
    return wheel


def fill_hub_cache(root: Path, repo: str) -> Path:
    """A snapshot as the Hub client leaves it."""
    snapshot = root / f"models--{repo.replace('/', '--')}" / "snapshots" / COMMIT
    tiny_llama().save_pretrained(snapshot)
    (snapshot / "tokenizer.json").write_text("{}")
    refs = snapshot.parent.parent / "refs"
    refs.mkdir()
    (refs / "main").write_text(COMMIT)
    return snapshot


# Where it comes from


def test_folder_comes_first_and_nothing_is_asked(folder, probe):
    source = resolve_backbone(folder)
    assert source == BackboneSource(f"path:{folder}", str(folder), None, "path")
    assert resolve_backbone(source.address) == source
    assert probe.calls == 0


def test_folder_without_a_model_or_with_a_revision_is_refused(tmp_path, folder):
    with pytest.raises(BackboneNotFoundError, match=r"config\.json"):
        resolve_backbone(tmp_path)
    with pytest.raises(ValueError, match="revision"):
        resolve_backbone(folder, revision="main")


def test_whole_snapshot_in_the_hub_cache_is_taken_without_asking(tmp_path, probe):
    snapshot = fill_hub_cache(tmp_path / "hub", "some/model")
    source = resolve_backbone("some/model")
    assert source == BackboneSource(f"hub:some/model@{COMMIT}", str(snapshot), COMMIT, "hub")
    assert resolve_backbone(source.address) == source
    assert probe.calls == 0
    assert isinstance(load_backbone(source), LlamaForCausalLM)


@pytest.mark.parametrize("damage", ["cut", "missing weights", "no tokenizer"])
def test_snapshot_that_is_not_whole_is_not_taken(tmp_path, probe, damage):
    snapshot = fill_hub_cache(tmp_path / "elsewhere", "some/model")
    weights = snapshot / "model.safetensors"
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-4])
    else:
        (weights if damage == "missing weights" else snapshot / "tokenizer.json").unlink()
    with pytest.raises(BackboneNotFoundError, match="no network"):
        resolve_backbone("some/model", cache_dir=tmp_path / "elsewhere")
    assert probe.calls == 1
    if damage == "no tokenizer":  # a slim model has its own
        assert load_backbone("some/model", cache_dir=tmp_path / "elsewhere").dtype
        assert probe.calls == 1


def test_reachable_hub_is_asked_once_and_its_commit_recorded(probe, wheel):
    probe.answer = COMMIT
    source = resolve_backbone()
    assert source == BackboneSource(f"hub:{DEFAULT_BACKBONE}@{COMMIT}", DEFAULT_BACKBONE, COMMIT, "hub")
    assert probe.calls == 1


def test_unreachable_hub_falls_back_to_the_wheel(probe, wheel):
    source = resolve_backbone()
    assert source.kind == "pypi" and source.address == f"pypi:tiny-wheel==1.0#sha256={wheel.sha256}"
    assert probe.calls == 1
    assert resolve_backbone(source.address) == source
    assert probe.calls == 1


def test_a_login_page_is_not_a_hub(probe, wheel):
    probe.answer = None  # a 200 that names no commit
    assert resolve_backbone().kind == "pypi"


def test_offline_mode_and_local_files_only_do_not_ask(probe, wheel, monkeypatch):
    assert resolve_backbone(local_files_only=True).kind == "pypi"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert resolve_backbone().kind == "pypi"
    assert probe.calls == 0


@pytest.mark.parametrize("exact", [{"revision": COMMIT}, {"name_or_path": f"hub:{DEFAULT_BACKBONE}@{COMMIT}"}])
def test_the_wheel_never_stands_in_for_exact_weights(probe, wheel, exact):
    with pytest.raises(BackboneNotFoundError, match="no network"):
        resolve_backbone(**exact)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_an_error_of_the_repository_is_raised_not_worked_around(probe, wheel, status):
    response = SimpleNamespace(status_code=status, headers={}, request=None)
    probe.answer = RepositoryNotFoundError("refused", response=response)
    with pytest.raises(BackboneNotFoundError, match=f"status {status}"):
        resolve_backbone()


def test_a_failing_server_counts_as_unreachable(probe, wheel):
    response = SimpleNamespace(status_code=503, headers={}, request=None)
    probe.answer = RepositoryNotFoundError("busy", response=response)
    assert resolve_backbone().kind == "pypi"


def test_message_says_what_was_tried_and_how_to_mend(probe, monkeypatch):
    missing = Wheel(distribution="no-such-distribution", version="0.1.2", file="a/b.gguf", sha256="0" * 64)
    monkeypatch.setattr(backbone_source, "WHEELS", {DEFAULT_BACKBONE: missing})
    with pytest.raises(BackboneNotFoundError, match="no network.*pip install --no-deps no-such-distribution==0.1.2"):
        resolve_backbone()
    with pytest.raises(BackboneNotFoundError, match="neither"):
        resolve_backbone("not/a/repository")
    with pytest.raises(BackboneNotFoundError, match="knows"):
        resolve_backbone("pypi:other==1#sha256=00")


def test_a_server_that_never_answers_is_left_within_the_bound(wheel, monkeypatch):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()  # takes connections, says nothing
        page = f"http://127.0.0.1:{server.getsockname()[1]}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", page)
        monkeypatch.setattr(backbone_source, "PROBE_SECONDS", 0.2)
        monkeypatch.setattr(backbone_source, "PROBE_LIMIT_SECONDS", 0.5)
        timeouts = []

        def measured(url, token, timeout):
            timeouts.append(timeout)
            return get_hf_file_metadata(url, token=token, timeout=timeout)

        monkeypatch.setattr(backbone_source, "get_hf_file_metadata", measured)
        with pytest.raises(BackboneNotFoundError, match="Timeout|no answer"):
            resolve_backbone("some/model")
    assert timeouts == [0.2]  # once


def test_a_name_look_up_that_hangs_is_left_too(monkeypatch):
    monkeypatch.setattr(backbone_source, "PROBE_LIMIT_SECONDS", 0.05)
    monkeypatch.setattr(backbone_source, "get_hf_file_metadata", lambda *_, **__: time.sleep(30))
    with pytest.raises(BackboneNotFoundError, match="no answer"):
        resolve_backbone("some/model")


# The wheel


def test_converted_model_equals_the_file(wheel):
    source = resolve_backbone(local_files_only=True)
    model, expected = load_backbone(source, dtype=torch.float32), tiny_llama().state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())
    assert load_backbone(source).dtype == torch.bfloat16  # as the Hub's
    recorded = json.loads(Path(source.path_or_repo, "source.json").read_text())
    assert recorded["address"] == source.address and recorded["sha256"] == wheel.sha256
    assert recorded["fingerprint"] == weights_fingerprint(model) == weights_fingerprint(tiny_llama())
    tokenizer = load_tokenizer(source)
    assert tokenizer.eos_token == tokenizer.pad_token == "<|im_end|>"
    assert tokenizer.chat_template is not None and tokenizer.model_max_length == 64
    assert tokenizer.convert_ids_to_tokens(tokenizer("abb").input_ids) == ["ab", "b"]


def test_conversion_is_reused_and_repaired(wheel, monkeypatch):
    weights = converted_folder(wheel) / "model.safetensors"
    written = weights.stat().st_mtime_ns
    converted_folder(wheel)
    assert weights.stat().st_mtime_ns == written

    weights.write_bytes(weights.read_bytes()[:-1])
    converted_folder(wheel)
    assert weights.stat().st_size > 0 and backbone_wheel.weights_are_whole(weights.parent)

    monkeypatch.setattr(backbone_wheel, "_gguf_file", lambda wheel: pytest.fail("converted again"))
    converted_folder(wheel)


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_interrupted_conversion_leaves_nothing(wheel, monkeypatch, tmp_path, error):
    def interrupted(model):
        raise error

    monkeypatch.setattr(backbone_wheel, "weights_fingerprint", interrupted)  # everything but source.json is written
    with pytest.raises(type(error)):
        converted_folder(wheel)
    assert os.listdir(tmp_path / "cache" / "rarec_hf" / "backbones") == []


def test_slower_of_two_conversions_gives_way(wheel, monkeypatch):
    original, winner = backbone_wheel._convert, []

    def overtaken(gguf, folder, wheel):
        original(gguf, folder, wheel)
        monkeypatch.setattr(backbone_wheel, "_convert", original)
        winner.append((converted_folder(wheel) / "model.safetensors").stat().st_ino)

    monkeypatch.setattr(backbone_wheel, "_convert", overtaken)
    folder = converted_folder(wheel)
    assert [(folder / "model.safetensors").stat().st_ino] == winner
    assert os.listdir(folder.parent) == [folder.name]


def test_another_file_in_the_wheel_is_refused(wheel, tmp_path):
    with (tmp_path / "site" / wheel.file).open("ab") as stream:
        stream.write(b"\0")
    with pytest.raises(BackboneNotFoundError, match="sha256"):
        converted_folder(wheel)


# Loading


@pytest.mark.parametrize("tied", [True, False])
def test_missing_weights_are_refused_tied_ones_are_not(tmp_path, tied):
    tiny_llama(tie_word_embeddings=tied).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights.pop("lm_head.weight", None)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    if tied:
        assert load_backbone(str(tmp_path)).config.vocab_size == 300
    else:
        with pytest.raises(ValueError, match=r"lm_head\.weight"):
            load_backbone(str(tmp_path))


def test_missing_layer_is_named(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"model\.layers\.1\.mlp\.up_proj\.weight"):
        load_backbone(resolve_backbone(folder))


def test_arguments_reach_from_pretrained(folder):
    model = load_backbone(folder, dtype="bfloat16", attn_implementation="eager", device_map="cpu")
    assert model.dtype == torch.bfloat16 and model.config._attn_implementation == "eager"


@pytest.mark.slow
def test_the_real_wheel_speaks(probe):
    pytest.importorskip("gguf")
    try:
        source = resolve_backbone()
    except BackboneNotFoundError as error:
        pytest.skip(str(error))
    model, tokenizer = load_backbone(source, dtype=torch.float32), load_tokenizer(source)
    inputs = tokenizer("The capital of France is", return_tensors="pt")
    answer = model.generate(**inputs, max_new_tokens=5, do_sample=False)
    assert "Paris" in tokenizer.decode(answer[0])
