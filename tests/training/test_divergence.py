"""A training that diverges is stopped with what was seen and what to try; the last good state loads."""

from __future__ import annotations

import math
import re
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, Trainer, TrainerCallback

from rarec_hf import RARecForSequentialRecommendation, SASRecModel
from rarec_hf.training import divergence, job
from rarec_hf.training.arguments import EncoderArguments
from rarec_hf.training.divergence import LAST_GOOD, DivergenceGuard, TrainingDiverged
from rarec_hf.training.id_encoder import train_id_encoder
from rarec_hf.training.run_folder import run_folder
from rarec_hf.training.samples import AlignmentCollator, AlignmentDataset
from rarec_hf.training.text_stage import draw_samples


@pytest.fixture
def prepare(prepare):
    """`prepare(*flags, spoil=None)`: a model whose encoder `spoil` has changed, and what `align` takes."""

    def make(*flags, spoil=None):
        model, alignment, training = prepare("--warmup_steps", "0", "--num_train_epochs", "4", *flags)
        if spoil is not None:
            with torch.no_grad():
                spoil(model)
        return model, alignment, training

    return make


@pytest.fixture
def align(prepare, split):
    def run(*flags, spoil=None, callbacks=()):
        model, alignment, training = prepare(*flags, spoil=spoil)
        return model, job.align(model, split, alignment, training, callbacks=callbacks)[0]

    return run


def stopped(run, *flags, **kwargs) -> TrainingDiverged:
    with pytest.raises(TrainingDiverged) as raised:
        run(*flags, **kwargs)
    return raised.value


class Spoil(TrainerCallback):
    """Changes a weight after some steps, as a flaw of the machine or of a callback would."""

    def __init__(self, step: int, name: str, value: float):
        self.step, self.name, self.value = step, name, value

    def on_step_end(self, args, state, control, model, **kwargs):
        if state.global_step == self.step:
            model.get_parameter(self.name).data.view(-1)[0] = self.value


# healthy runs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", ["0.001", "0.05", "0.5"])
@pytest.mark.parametrize("score", ["encoder_plus_llm", "dot_product"])
def test_a_healthy_run_is_not_stopped_and_keeps_nothing(align, tmp_path, rate, score):
    model, log = align("--learning_rate", rate, "--score", score)
    assert len([entry for entry in log if "loss" in entry]) == 8
    assert not list(tmp_path.rglob(LAST_GOOD))
    assert not model._forward_hooks and not model._forward_pre_hooks
    assert not any(generator._forward_hooks for generator in model.soft_prompts.values())


@pytest.mark.parametrize(
    "flags",
    [("--use_id_vectors", "false"), ("--use_soft_prompts", "false"), ("--soft_prompt_position", "before_text")],
)
def test_soft_prompts_that_are_equal_by_design_or_not_there_are_no_collapse(align, flags):
    assert align(*flags)[1]


def test_a_batch_of_two_alike_users_is_no_collapse(trained, make_batch):
    model = trained()
    with watching(model):
        for _ in range(5):
            model.train()(**make_batch(histories=[(1, 2)] * 4, targets=(1, 3, 2, 0)))


class watching:
    """A guard on a model outside of a Trainer."""

    def __init__(self, model):
        self.guard, self.model = DivergenceGuard(), model
        self.args = SimpleNamespace(output_dir="unused", learning_rate=0.1, fp16=False)
        self.state = SimpleNamespace(global_step=0, is_world_process_zero=False)

    def __enter__(self):
        self.guard.on_train_begin(self.args, self.state, None, model=self.model)
        return self.guard

    def __exit__(self, *error):
        self.guard.release()


# what is not finite --------------------------------------------------------------------------------------------------


def test_nan_in_an_id_vector_is_named(align):
    def spoil(model):
        model.id_encoder.item_embeddings.weight[:, 0] = math.nan

    error = stopped(align, spoil=spoil)
    assert error.step == 0 and error.seen == "the loss is nan"
    assert "`id_encoder.item_embeddings.weight` is frozen" in str(error) and "check the ID encoder" in str(error)


def test_nan_in_the_backbone_is_named(align):
    def spoil(model):
        model.language_model.get_input_embeddings().weight[:] = math.inf

    with pytest.raises(ValueError, match=r"states of \d+ of \d+ item texts are not finite, the first item ids: .'i0'"):
        align(spoil=spoil)
    assert "check the backbone's weights" in str(stopped(align, "--score", "dot_product", spoil=spoil))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_weight_that_breaks_in_the_middle(align, value, tmp_path):
    spoiled = Spoil(3, "soft_prompts.user.projector.weight", value)
    error = stopped(align, "--learning_rate", "0.01", callbacks=[spoiled])
    assert (error.step, error.good_step) == (3, 2)
    assert "Training diverged after step 3" in str(error) and "learning rate (it is 0.01)" in str(error)
    assert error.last_good == tmp_path / "work" / LAST_GOOD and str(error.last_good) in str(error)


def test_the_last_good_state_is_that_of_its_step_and_loads(align, prepare, split):
    """Beside a run of the same seed that was let be."""

    class Weights(TrainerCallback):
        after = {}

        def on_step_end(self, args, state, control, model, **kwargs):
            self.after[state.global_step] = {n: t.clone() for n, t in model.own_weights().items()}

    align("--learning_rate", "0.01", callbacks=[Weights()])
    model, alignment, training = prepare("--learning_rate", "0.01")
    spoiled = Spoil(3, "soft_prompts.item.projector.bias", math.nan)
    error = stopped(job.align, model, split, alignment, training, callbacks=[spoiled])
    for name, tensor in load_file(error.last_good / "model.safetensors").items():
        assert torch.equal(tensor, Weights.after[2][name]), name
        assert torch.equal(tensor, model.own_weights()[name]), name  # and the model itself has them again
    again = RARecForSequentialRecommendation.from_pretrained(error.last_good)
    again.index_catalogue(progress=False)
    assert len(again.recommend(["i1", "i2"], k=3)) == 3
    assert not model._forward_hooks and not model._forward_pre_hooks


def test_a_gradient_that_is_not_finite_stops_before_the_step(align):
    class Break(TrainerCallback):
        def on_step_begin(self, args, state, control, model, **kwargs):
            if state.global_step == 1:
                model.soft_prompts["user"].context.register_hook(lambda gradient: gradient * math.nan)

    error = stopped(align, callbacks=[Break()])
    assert (error.step, error.good_step) == (1, 0) and "gradient" in error.seen  # step 1's weights gave no good step
    assert all(bool(torch.isfinite(t).all()) for t in load_file(error.last_good / "model.safetensors").values())


# what explodes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("score", ["encoder_plus_llm", "dot_product"])
def test_a_learning_rate_of_a_million(align, score):
    error = stopped(align, "--learning_rate", "1e6", "--score", score)
    assert (error.step, error.good_step) == (1, 0)
    assert re.search(r"soft prompts' (keys|values) in layer 0 have grown to 1\.9.e\+09 times the size of", error.seen)
    assert "Lower the learning rate (it is 1e+06)" in str(error)
    assert RARecForSequentialRecommendation.from_pretrained(error.last_good)


def test_a_loss_a_thousand_times_the_first(align):
    spoiled = Spoil(2, "score_head.gains", 1e6)
    assert "the first one was" in stopped(align, callbacks=[spoiled]).seen


# what collapses ------------------------------------------------------------------------------------------------------


def test_a_constant_encoder(align):
    def spoil(model):
        model.id_encoder.item_embeddings.weight[:] = model.id_encoder.item_embeddings.weight[0].clone()
        model.id_encoder.position_embeddings.weight.zero_()

    error = stopped(align, spoil=spoil)
    assert error.step == 2  # the third batch
    assert "ID vectors of a batch's" in error.seen and "nearly equal for 3 batches" in error.seen
    assert "Check that the ID encoder's vectors differ" in str(error)


def test_soft_prompts_that_forget_who_is_asked(align):
    def spoil(model):
        for generator in model.soft_prompts.values():
            generator.projector.weight *= 1e-4
            generator.projector.bias.fill_(1.0)

    error = stopped(align, "--learning_rate", "1e-6", spoil=spoil)
    assert "soft prompts of a batch" in error.seen and "Lower the learning rate" in error.advice


def test_readout_states_that_are_all_one(trained, make_batch):
    """A last norm that lets through one direction alone."""
    model = trained(score="dot_product")
    with torch.no_grad():
        model.language_model.model.norm.weight.zero_()
        model.language_model.model.norm.register_forward_hook(lambda module, args, output: output + 1)
    with pytest.raises(TrainingDiverged, match="readout states of a batch's items"), watching(model):
        for _ in range(3):
            model.train()(**make_batch())


# the ID encoder's own training, any Trainer, the folder of a run -----------------------------------------------------


def train_encoder(split, folder, rate, **changes):
    arguments = EncoderArguments(encoder_epochs=2, encoder_hidden_size=8, encoder_learning_rate=rate, **changes)
    sequences = split.encoder_sequences()
    return train_id_encoder(split, sequences, split.validation, arguments, folder, 0, None, disable_tqdm=True)


def test_the_id_encoder_diverges(split, tmp_path, monkeypatch):
    train_encoder(split, tmp_path / "healthy", 0.01)
    assert not list(tmp_path.rglob(LAST_GOOD))
    forward = SASRecModel.forward

    def broken(self, *args, **kwargs):
        output = forward(self, *args, **kwargs)
        broken.calls += 1
        return output if broken.calls != 2 else type(output)(loss=output.loss * math.nan)

    broken.calls = 0
    monkeypatch.setattr(SASRecModel, "forward", broken)
    error = stopped(train_encoder, split, tmp_path / "work", 0.01)
    assert error.step == 1 and error.seen == "the loss is nan" and "it is 0.01" in str(error)
    assert type(AutoModel.from_pretrained(error.last_good)) is SASRecModel


def test_any_trainer_takes_the_guard(prepare, split):
    model, alignment, training = prepare("--learning_rate", "1e6")
    samples, _ = draw_samples(split, alignment, 0, model.processor)
    model.prepare_texts(range(split.interactions.n_items), progress=False)
    data = AlignmentDataset(split.interactions, samples.samples)
    trainer = Trainer(
        model=model,
        args=training,
        train_dataset=data,
        data_collator=AlignmentCollator(model.processor, 8),
        callbacks=[DivergenceGuard()],
    )
    assert stopped(trainer.train).step == 1


def test_the_run_folder_keeps_the_last_good_state(align, tmp_path):
    target = tmp_path / "run"

    def run():
        with run_folder(target) as work:
            align("--learning_rate", "1e6", "--output_dir", str(work / "checkpoints"))

    error = stopped(run)
    assert not target.exists() and not (tmp_path / "run.partial").exists()
    assert error.last_good == tmp_path / "run.last_good" and str(tmp_path / "run.last_good") in str(error)
    assert RARecForSequentialRecommendation.from_pretrained(error.last_good).processor is not None
    stopped(run)  # a second time, over the first one's


def test_large_models_are_not_copied_every_step(monkeypatch):
    monkeypatch.setattr(divergence, "COPIED_A_STEP", 10)
    model = torch.nn.Linear(5, 2)  # 48 bytes
    with watching(model) as guard:
        kept = []
        for step in range(10):
            guard._keep(step)
            kept.append(guard._good_step)
    assert kept == [0, 0, 0, 0, 4, 4, 4, 4, 8, 8]
