"""What learns and what stays frozen, gradients, activation checkpointing, precision, and each part switched off."""

from __future__ import annotations

import pytest
import torch

from rarec_hf.objectives import bpr

POSITIONS = ["before_text", "after_text"]
EACH_POSITION = pytest.mark.parametrize("position", POSITIONS)


def snapshot(module):
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def changed(before, module):
    return {name for name, tensor in module.state_dict().items() if not torch.equal(before[name], tensor)}


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def close(a, b, tolerance=1e-5):
    torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


# what learns ---------------------------------------------------------------------------------------------------------


def test_wrapping_leaves_backbone_and_encoder_alone(make_backbone, make_encoder, make_model):
    backbone, encoder = make_backbone(), make_encoder()
    before, vectors = snapshot(backbone), snapshot(encoder)
    model = make_model(backbone=backbone, encoder=encoder)
    assert model.language_model is backbone
    assert changed(before, backbone) == changed(vectors, encoder) == set()


@EACH_POSITION
@pytest.mark.parametrize("score", ["encoder_plus_llm", "dot_product"])
def test_trainable_parameters_change_and_frozen_ones_do_not(make_model, make_batch, position, score):
    model, batch = make_model(soft_prompt_position=position, score=score), make_batch()
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name.split(".")[0] for name in trainable} == (
        {"soft_prompts", "score_head"} if score[0] == "e" else {"soft_prompts"}
    )
    before, first = snapshot(model), None
    # without weight decay, which would change a parameter that gets no gradient
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.0)
    model.train()
    for _ in range(8):
        loss = model(**batch).loss
        first = loss.item() if first is None else first
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < first - 0.01
    assert changed(before, model) == trainable


def soft_prompt_layers(model, batch):
    """A forward and backward; gradients of keys and values by side and layer."""
    caught = {}

    def keep(side):
        def hook(module, arguments, prompts):
            for pair in prompts.layers.values():
                for tensor in pair:
                    tensor.retain_grad()
            caught[side] = prompts.layers

        return hook

    for side, module in model.soft_prompts.items():
        module.register_forward_hook(keep(side))
    model.train()
    model(**batch).loss.backward()
    return caught


@EACH_POSITION
@pytest.mark.parametrize("kind", ["llama", "gemma3", "gpt2"])
def test_gradient_reaches_keys_and_values_of_every_layer(make_model, make_batch, position, kind):
    # no alignment loss, whose gradient reaches the values past the backbone
    model = make_model(kind, soft_prompt_position=position, score="dot_product", alignment_weight=0.0)
    caught = soft_prompt_layers(model, make_batch())
    assert caught.keys() == {"user", "item"}
    for side, layers in caught.items():
        assert len(layers) == 3
        for layer, pair in layers.items():
            for what, tensor in zip(("keys", "values"), pair, strict=True):
                largest = tensor.grad.abs().amax((1, 3))  # by row and soft prompt
                assert bool(torch.isfinite(tensor.grad).all()), (side, layer, what)
                assert largest.min() > 1e-8, (side, layer, what)


def test_soft_prompts_are_reached_through_windows_shorter_than_the_text(make_backbone, make_model, make_batch):
    """Only sliding layers, a text longer than all their windows together: soft prompts before it are still read."""
    layers = {"layer_types": ["sliding_attention"] * 3}
    model = make_model(
        backbone=make_backbone("gemma3", **layers),
        soft_prompt_position="before_text",
        score="dot_product",
        alignment_weight=0.0,
    )
    batch = make_batch(histories=((1, 2, 3, 4, 5),), items=(3, 5), targets=(1,))
    assert batch["user_text_mask"].sum() > 3 * 4
    caught = soft_prompt_layers(model, batch)
    for keys, values in caught["user"].values():
        assert min(keys.grad.abs().max(), values.grad.abs().max()) > 1e-6


# modes ---------------------------------------------------------------------------------------------------------------


def test_training_mode_leaves_frozen_parts_in_evaluation_mode(make_model):
    model = make_model(encoder=None)
    model.train()
    assert model.soft_prompts.training
    assert not any(module.training for module in model.language_model.modules())
    assert not any(module.training for module in model.id_encoder.modules())
    model.eval()
    assert not model.training


@EACH_POSITION
@pytest.mark.parametrize("kind", ["llama", "gemma3", "gpt2"])
def test_checkpointing_changes_neither_loss_nor_gradients(make_model, make_batch, position, kind):
    model, batch = make_model(kind, soft_prompt_position=position, score="dot_product"), make_batch()
    blocks = model.language_model.base_model
    runs = []
    (blocks.layers if kind != "gpt2" else blocks.h)[1].mlp.register_forward_pre_hook(lambda *_: runs.append(1))
    results = []
    for enabled in (False, True, False):
        if enabled:  # as the Trainer does it
            model.activation_checkpointing_enable(
                activation_checkpointing_kwargs=None, every_n_layers=1, offload=False
            )
        else:
            model.activation_checkpointing_disable()
        model.train()
        model.zero_grad()
        runs.clear()
        loss = model(**batch).loss
        forward = len(runs)
        loss.backward()
        assert (len(runs) > forward) is enabled  # blocks are computed again in the backward pass
        results.append((loss.detach(), gradients(model)))
    for loss, grads in results[1:]:
        assert torch.equal(loss, results[0][0])
        assert grads.keys() == results[0][1].keys()
        assert all(torch.equal(grads[name], results[0][1][name]) for name in grads)


def test_reentrant_checkpointing_and_dropout_are_refused(make_model, make_backbone, make_batch):
    model = make_model()
    for enable in (model.activation_checkpointing_enable, model.gradient_checkpointing_enable):
        with pytest.raises(ValueError, match="use_reentrant=False"):
            enable({"use_reentrant": True})
    for kind, dropout in (("gpt2", {"resid_pdrop": 0.3}), ("llama", {"attention_dropout": 0.3})):
        model = make_model(backbone=make_backbone(kind, **dropout))
        with pytest.raises(ValueError, match="dropout"):
            model.activation_checkpointing_enable()
        model.train()  # and without checkpointing its dropout stays off
        assert torch.equal(model(**make_batch()).loss, model(**make_batch()).loss)


def test_bf16_backbone_with_the_alignment_module_in_fp32(make_model, make_backbone, make_batch):
    batch = make_batch()
    exact = make_model(score="dot_product")(**batch).scores
    model = make_model(backbone=make_backbone().to(torch.bfloat16), score="dot_product").train()
    output = model(**batch)
    output.loss.backward()
    assert model.language_model.dtype == torch.bfloat16
    for module in (model.soft_prompts, model.score_head, model.id_encoder):
        assert all(parameter.dtype == torch.float32 for parameter in module.parameters())
    assert all(grad.dtype == torch.float32 and bool(torch.isfinite(grad).all()) for grad in gradients(model).values())
    assert output.scores.dtype == output.user_states.dtype == torch.float32
    assert (output.scores - exact).abs().max() < 0.1 * exact.abs().max()


# switches ------------------------------------------------------------------------------------------------------------


@EACH_POSITION
@pytest.mark.parametrize("score", ["encoder_plus_llm", "dot_product"])
@pytest.mark.parametrize(
    "switch",
    [
        {},
        {"use_id_vectors": False},
        {"context_length": 0},
        {"layer_specific_projectors": False},
        {"alignment_weight": 0.0},
        {"pooled_history": 0},
        {"use_soft_prompts": False},
        {"item_soft_prompts": False},
    ],
    ids=lambda switch: next(iter(switch), "all"),
)
def test_each_part_can_be_switched_off(make_model, make_batch, position, score, switch):
    model = make_model(soft_prompt_position=position, score=score, **switch).train()
    batch = make_batch()
    output = model(**batch)
    assert bool(torch.isfinite(output.loss))
    names = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    soft = {name.rsplit(".", 1)[0] for name in names if name.startswith("soft_prompts.user")}
    soft |= {name for name in names if name.endswith("user.context")}
    expected = {"soft_prompts.user", "soft_prompts.user.context", "soft_prompts.user.projector"}
    if "use_id_vectors" in switch:
        expected.remove("soft_prompts.user.projector")
    if "context_length" in switch:
        expected -= {"soft_prompts.user", "soft_prompts.user.context"}
    if "use_soft_prompts" in switch:
        expected = set()
    assert soft == expected
    if "item_soft_prompts" in switch:
        assert not any(name.startswith("soft_prompts.item") for name in names)
    if "layer_specific_projectors" in switch:
        assert model.soft_prompts["user"].projector.out_features == 2 * 16
    elif "projector" in str(expected):
        assert model.soft_prompts["user"].projector.out_features == 3 * 2 * 16
    aligned = not switch.keys() & {"use_id_vectors", "alignment_weight", "use_soft_prompts"}
    assert (output.alignment_loss is not None) is aligned
    if aligned:
        close(output.loss.detach(), output.ranking_loss + model.config.alignment_weight * output.alignment_loss)
        assert output.alignment_loss > 0
    else:
        assert torch.equal(output.loss, output.ranking_loss)
    if names:
        output.loss.backward()
    model.index_catalogue(progress=False)
    assert len(model.recommend(["i1", "i2"], k=3)) == 3


def test_no_alignment_loss_in_evaluation(make_model, make_batch):
    output = make_model().eval()(**make_batch())
    assert output.alignment_loss is None
    assert torch.equal(output.loss, output.ranking_loss)


def test_popularity_correction_and_negatives_by_hand(trained, make_batch):
    batch = make_batch()
    targets, log_q = batch["targets"], torch.tensor([-1.0, -2.0, -3.0, -0.5])
    negatives = torch.tensor([[1, 0, 1, 0], [0, 1, 0, 0], [1, 1, 0, 1]]).bool()
    model = trained(alignment_weight=0.0)
    scores = model(**batch).scores
    everything = torch.arange(4) != targets.unsqueeze(1)
    close(model(**batch).loss, bpr(scores, targets, everything))
    close(model(**batch, negatives=negatives).loss, bpr(scores, targets, negatives))
    close(model(**batch, item_log_q=log_q).loss, bpr(scores - log_q, targets, everything))
    plain = trained(alignment_weight=0.0, popularity_correction=False)
    close(plain(**batch, item_log_q=log_q).loss, bpr(scores, targets, everything))
    sharper = trained(alignment_weight=0.0, objective_temperature=0.25)
    close(sharper(**batch, item_log_q=log_q).loss, bpr(4 * scores - log_q, targets, everything))
    paper = trained(alignment_weight=0.0, score="dot_product")
    close(paper(**batch).loss, bpr(paper(**batch).scores / 32, targets, everything))
