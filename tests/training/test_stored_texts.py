from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from rarec_hf.packed_texts import KeptTexts, PackedText, text_key
from rarec_hf.training.stored_texts import StoredTexts

GIB = 2**30


@pytest.fixture
def texts():
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(0, 256, (length,), generator=generator).tolist() for length in (7, 3, 12, 7, 5)]


def padded(texts):
    longest = max(map(len, texts))
    ids = torch.tensor([text + [0] * (longest - len(text)) for text in texts])
    return ids, torch.tensor([[1] * len(text) + [0] * (longest - len(text)) for text in texts])


class Counted:
    """Counts the rows that pass the backbone."""

    def __init__(self, model):
        self.rows = 0
        model.backbone.register_forward_pre_hook(self.seen, with_kwargs=True)

    def seen(self, module, args, kwargs):
        self.rows += len(kwargs["input_ids"])


def store(model, folder, texts, budget=GIB):
    stored = StoredTexts(folder, model, progress=False)
    stored.store(model, stored.plan(texts, budget).to_store, batch_size=2)
    return stored


@pytest.mark.parametrize("kind", ["llama", "gemma3", "gpt2"])
def test_stored_states_are_those_of_the_backbone(make_model, texts, tmp_path, kind):
    model = make_model(kind)
    store(model, tmp_path, texts)
    model.stored_texts = StoredTexts(tmp_path, model, progress=False)
    assert len(model.stored_texts) == 5
    ids, mask = padded(texts)
    counted = Counted(model)
    found = model.text_states_of(ids, mask)
    assert counted.rows == 0
    model.stored_texts = None
    fresh = model.text_states_of(ids, mask)
    assert counted.rows == 5
    torch.testing.assert_close(found.mean, fresh.mean, atol=1e-5, rtol=0)
    real = mask.bool()
    for index, pair in fresh.segment.layers.items():
        for a, b in zip(found.segment.layers[index], pair, strict=True):
            torch.testing.assert_close(a.transpose(1, 2)[real], b.transpose(1, 2)[real], atol=1e-5, rtol=0)


def test_each_distinct_text_passes_once_and_a_second_run_computes_nothing(make_model, texts, tmp_path):
    model = make_model()
    counted = Counted(model)
    store(model, tmp_path, texts + texts)
    assert counted.rows == 5
    plan = StoredTexts(tmp_path, model, progress=False).plan(texts, GIB)
    assert (plan.stored, plan.to_store, plan.over_budget) == (5, [], 0)


def test_a_run_that_was_cut_off_goes_on_where_it_stopped(make_model, texts, tmp_path, monkeypatch):
    model = make_model()
    monkeypatch.setattr("rarec_hf.training.stored_texts.SHARD_BYTES", 1)
    counted, cut = Counted(model), StoredTexts(tmp_path, model, progress=False)
    write = cut._write
    monkeypatch.setattr(cut, "_write", lambda texts: (write(texts), (_ for _ in ()).throw(KeyboardInterrupt))[0])
    with pytest.raises(KeyboardInterrupt):
        cut.store(model, texts, batch_size=2)
    assert counted.rows == 2
    again = store(model, tmp_path, texts)
    assert counted.rows == 5 and len(again) == 5
    assert model.stored_texts is None


@pytest.mark.parametrize("damage", ["truncated", "changed", "renamed"])
def test_damaged_shards_are_rebuilt_and_never_read(make_model, texts, tmp_path, damage, caplog, monkeypatch):
    model = make_model()
    monkeypatch.setattr("rarec_hf.training.stored_texts.logger.warning", lambda *a: caplog.records.append(a))
    shard = next(store(model, tmp_path, texts).folder.glob("texts-*"))
    content = bytearray(shard.read_bytes())
    if damage == "truncated":
        shard.write_bytes(content[: len(content) // 2])
    elif damage == "changed":
        content[-5] ^= 1
        shard.write_bytes(content)
    else:
        shard.rename(shard.with_name("texts-" + "0" * 32 + ".safetensors"))
    stored = StoredTexts(tmp_path, model, progress=False)
    assert len(stored) == 0 and not list(stored.folder.glob("texts-*")) and caplog.records
    assert len(store(model, tmp_path, texts)) == 5


def test_another_backbone_or_dtype_reads_nothing_of_it(make_model, make_backbone, texts, tmp_path):
    store(make_model(), tmp_path, texts)
    assert len(StoredTexts(tmp_path, make_model(backbone=make_backbone(seed=1)), progress=False)) == 0
    half = make_model(backbone=make_backbone().to(torch.bfloat16))
    assert len(StoredTexts(tmp_path, half, progress=False)) == 0
    assert store(half, tmp_path, texts)._where  # beside the other
    assert len(StoredTexts(tmp_path, make_model(), progress=False)) == 5


def test_beyond_the_budget_texts_run_on_the_fly(make_model, texts, tmp_path):
    model = make_model()
    a_token = sum(s.heads * (s.key_dim + s.value_dim) for s in model.spec.shapes.values()) * 4
    stored = StoredTexts(tmp_path, model, progress=False)
    a_text = 4 * 32 + 24  # mean, key and length
    plan = stored.plan(texts, 10 * a_token + 2 * a_text)
    assert plan.to_store == texts[:2] and plan.over_budget == 3
    assert plan.n_bytes == 34 * a_token + 5 * a_text and "3 run on the fly" in str(plan)
    stored.store(model, plan.to_store)
    model.stored_texts, counted = stored, Counted(model)
    ids, mask = padded(texts)
    mixed = model.text_states_of(ids, mask)
    assert counted.rows == 3
    model.stored_texts = None
    torch.testing.assert_close(mixed.mean, model.text_states_of(ids, mask).mean, atol=1e-5, rtol=0)


def test_training_on_stored_states_gives_the_gradients_of_the_uncached_run(make_model, make_batch, tmp_path):
    def gradients(stored):
        model = make_model(objective="cross_entropy")
        model.score_head.set_gains(1.0, 1.0)
        batch = make_batch(processor=model.processor)
        if stored:
            rows = []
            for side in ("user", "item"):
                ids, mask = batch[f"{side}_text_ids"], batch[f"{side}_text_mask"].bool()
                rows += [row[real].tolist() for row, real in zip(ids, mask, strict=True)]
            model.stored_texts = store(model, tmp_path, rows)
        counted = Counted(model)
        model.train()
        loss = model(**batch).loss
        loss.backward()
        assert counted.rows == (7 if stored else 14)  # readouts; and texts
        assert all(p.grad is None for p in model.language_model.parameters())
        return loss.item(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}

    (loss, plain), (cached_loss, cached) = gradients(False), gradients(True)
    assert cached_loss == pytest.approx(loss, abs=1e-6)
    assert plain.keys() == cached.keys() and len(plain) > 4
    for name, gradient in plain.items():
        torch.testing.assert_close(cached[name], gradient, atol=1e-5 * gradient.abs().max().item() + 1e-9, rtol=1e-3)


def test_the_means_of_the_papers_layout_are_computed_once(make_model, make_batch):
    model = make_model(soft_prompt_position="before_text", score="dot_product")
    batch = make_batch(processor=model.processor)
    counted = Counted(model)
    model.train()
    first = model(**batch).loss
    assert counted.rows == 14
    second = model(**batch).loss
    assert counted.rows == 14 + 7
    torch.testing.assert_close(first, second, atol=1e-6, rtol=0)


def test_kept_texts_give_up_what_was_not_used_for_longest():
    def text(n):
        return PackedText(torch.zeros(n, 4), torch.zeros(4))

    kept = KeptTexts(3 * text(1).n_bytes)
    for n in range(3):
        kept.put(text_key([n]), text(1))
    kept.find(text_key([0]))
    kept.put(text_key([3]), text(1))
    assert [kept.find(text_key([n])) is not None for n in range(4)] == [True, False, True, True]
    kept.put(text_key([3]), text(1))
    assert len(kept) == 3 and kept.n_bytes == kept.max_bytes
    kept.put(text_key([4]), text(99))  # more than all
    assert len(kept) == 0 and kept.n_bytes == 0


@pytest.mark.parametrize("model_type", ["lfm2_moe", "falcon_h1", "glm_moe_dsa", "gemma4_text"])
def test_states_of_hybrids_indexers_and_unlike_layers_are_stored_too(make_model, tmp_path, model_type):
    from benchmarks.backbones.tiny import VOCABULARY, tiny_model

    model = make_model(backbone=tiny_model(model_type).eval())
    generator = torch.Generator().manual_seed(0)
    texts = [torch.randint(5, VOCABULARY, (length,), generator=generator).tolist() for length in (7, 4, 7)]
    stored = store(model, tmp_path, texts)
    ids, mask = padded([texts[0], texts[2]])  # of one length, as hybrids need them
    readout, vectors = torch.tensor([6, 7]), torch.randn(2, 1, 16, generator=generator)
    fresh = model.read("user", ids, mask, readout, vectors)
    model.stored_texts, counted = stored, Counted(model)
    found = model.read("user", ids, mask, readout, vectors)
    assert counted.rows == 2  # the readouts
    torch.testing.assert_close(found.state, fresh.state, atol=1e-4, rtol=1e-4)
    other = model.read("user", ids.flip(0), mask, readout, vectors)
    assert (other.state - fresh.state).abs().max() > 1e-3


def test_a_shard_that_cannot_be_opened_is_left_alone(make_model, texts, tmp_path, monkeypatch):
    model = make_model()
    shard = next(store(model, tmp_path, texts).folder.glob("texts-*"))
    opened = Path.open

    def busy(self, *args, **kwargs):
        if self == shard:
            raise PermissionError(13, "Permission denied")
        return opened(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", busy)
        assert len(StoredTexts(tmp_path, model, progress=False)) == 0
    assert shard.exists() and len(StoredTexts(tmp_path, model, progress=False)) == 5


def test_two_runs_write_into_one_folder_at_a_time(make_model, texts, tmp_path):
    model = make_model()
    first, second = (StoredTexts(tmp_path, model, progress=False) for _ in range(2))
    packed = list(first._computed(model, texts))
    with ThreadPoolExecutor(2) as pool:
        for _ in range(10):
            list(pool.map(lambda stored: stored._write(packed), (first, second)))
    assert [path.name[:6] for path in first.folder.iterdir()] == ["texts-"]
    assert len(StoredTexts(tmp_path, model, progress=False)) == 5


def test_what_a_killed_run_left_is_removed_once_it_is_old(make_model, tmp_path):
    model = make_model()
    folder = StoredTexts(tmp_path, model, progress=False).folder
    old, young = folder / "unnamed-1", folder / ".unnamed-2.x"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    StoredTexts(tmp_path, model, progress=False)
    assert not old.exists() and young.exists()


@pytest.mark.parametrize("model_type", ["falcon_h1", "llama"])
def test_the_size_planned_is_the_size_written(make_model, tmp_path, model_type):
    from benchmarks.backbones.tiny import tiny_model

    model = make_model(backbone=tiny_model(model_type).eval())
    texts = [[n + 5] * (n % 7 + 1) for n in range(40)]
    stored = StoredTexts(tmp_path, model, progress=False)
    plan = stored.plan(texts, GIB)
    stored.store(model, plan.to_store)
    assert plan.n_bytes <= stored.n_bytes < plan.n_bytes + 4096  # one header
    assert stored.plan(texts, GIB).stored == 40
    half = StoredTexts(tmp_path / "half", model, progress=False)
    half.store(model, half.plan(texts, plan.n_bytes // 2).to_store)
    assert 0.3 * plan.n_bytes < half.n_bytes < 0.5 * plan.n_bytes + 4096


def test_quantised_backbones_and_the_other_direction_read_nothing_of_it(make_model, texts, tmp_path):
    model = make_model()
    model.config.backbone_fingerprint = "v1:recorded:before"
    store(model, tmp_path, texts)
    model.language_model.config.quantization_config = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    assert len(StoredTexts(tmp_path, model, progress=False)) == 0
    del model.language_model.config.quantization_config
    assert len(StoredTexts(tmp_path, model, progress=False)) == 5
    model.config.bidirectional = True
    assert len(StoredTexts(tmp_path, model, progress=False)) == 0


def test_stored_states_of_other_weights_are_refused(make_model, texts, tmp_path):
    model = make_model()
    model.stored_texts = store(model, tmp_path, texts)
    ids, mask = padded(texts)
    model.text_states_of(ids, mask)
    with torch.no_grad():
        next(model.backbone.layers[0].parameters()).add_(1)
    with pytest.raises(ValueError, match="another backbone, or of this one with other weights"):
        model.text_states_of(ids, mask)
    model.stored_texts = None
    model.to(torch.float64)
    assert model.text_states_of(ids, mask).mean is not None


def test_means_that_are_remembered_go_with_the_weights(make_model, make_batch):
    model = make_model(soft_prompt_position="before_text", score="dot_product")
    batch = make_batch(processor=model.processor)
    model.train()
    model(**batch)
    with torch.no_grad():
        model.backbone.layers[0].self_attn.v_proj.weight.mul_(-2)
    counted = Counted(model)
    model(**batch)
    assert counted.rows == 14  # texts again, and with soft prompts
