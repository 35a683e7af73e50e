"""Training that diverged is stopped: what was seen and at which step, what to try, and the last good state kept."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

LAST_GOOD = "last_good"

# Ten steps of SmolLM2-135M kept the soft prompts' keys within 3 times and their values within 75 times the size of the
# text's (the first layer's are tiny), and tiny models whose loss still fell at a learning rate of 0.5 reached 3,300
# times. At 10,000 times a soft prompt's logit is thousands away from every token's: exp() of less than -88 is 0 in
# float32, so that the text has no share of the attention and no gradient leads back.
EXPLODED = 1e4
# Relative: cross-entropy by chance is ln(n_items), 14 for a million, and BPR's 0.7. A thousand times what the model
# began with is no noise of a batch but logits of thousands, where a softmax is flat.
EXPLODED_LOSS = 1e3
# bfloat16 has 8 bits: where rows differ by less than this share of their size, the backbone reads them as one. In
# those ten steps readout states differed by 0.21 at least, soft prompts by 0.39; in a tiny model by 0.035 and 0.85.
COLLAPSED = 2.0**-8
COLLAPSED_BATCHES = 3  # in a row; one batch may hold like users by chance
LEAST_ROWS = 4  # distinct histories or items in a batch that are compared
COPIED_A_STEP = 2**24  # bytes: what is kept of larger models is renewed every so many steps only


class TrainingDiverged(RuntimeError):
    """
    Training that would only have gone on to nothing.

    Attributes:
        step (`int`): optimizer steps that were done.
        seen (`str`), advice (`str`): what was seen, and what to try.
        last_good (`Path`, *optional*): a folder with the last state that was good, for `from_pretrained`.
        good_step (`int`): the steps of that state.
    """

    def __init__(self, step: int, seen: str, advice: str, last_good: Path | None = None, good_step: int = 0):
        super().__init__(step, seen, advice, last_good, good_step)
        self.step, self.seen, self.advice, self.last_good, self.good_step = step, seen, advice, last_good, good_step

    def __str__(self) -> str:
        kept = "" if self.last_good is None else f" The last good state, of step {self.good_step}: {self.last_good}."
        return f"Training diverged after step {self.step}: {self.seen}. {self.advice}{kept}"


class DivergenceGuard(TrainerCallback):
    """
    Stops a training at the first loss or gradient that is not finite, before the weights are touched by it; at soft
    prompts that explode beside the frozen backbone's own keys and values; at a loss a thousand times the first one;
    and at representations that have collapsed: for several batches in a row the ID vectors, soft prompts or readout
    states of distinct users or items are nearly one.

    Weights that passed a whole step are copied, and on a stop saved to `last_good` in `args.output_dir`; the model has
    them again, too. [`RankingTrainer`] has this guard; give it to any other `Trainer` with
    `callbacks=[DivergenceGuard()]`.

    Raises:
        TrainingDiverged: says what was seen, at which step, what to try, and where the last good state is.
    """

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        self.release()
        self.args, self.state, self.model = args, state, model
        self._first_loss: float | None = None
        self._frozen: dict[int, tuple[float, float]] = {}
        self._distinct = {"user": 0, "item": 0}
        self._alike: dict[str, int] = {}
        self._copy, self._good_step = None, -1
        self._keep(state.global_step)
        self._hooks.append(model.register_forward_pre_hook(self._before, with_kwargs=True))
        self._hooks.append(model.register_forward_hook(self._after))
        for side, generator in getattr(model, "soft_prompts", {}).items():
            self._hooks.append(generator.register_forward_hook(self._of_side(side)))

    def on_pre_optimizer_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        if not args.fp16:  # a scaler finds its scale by overflowing gradients, and leaves such a step out itself
            for name, parameter in model.named_parameters():
                if parameter.grad is not None and not _finite(parameter.grad):
                    self._stop(f"the gradient of `{name}` is not finite", self._advice())
        self._keep(state.global_step)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.release()

    def release(self) -> None:
        """Takes the guard off the model."""
        for hook in vars(self).get("_hooks", ()):
            hook.remove()
        self._hooks: list[Any] = []
        self._copy = None

    # what a forward shows --------------------------------------------------------------------------------------------

    def _before(self, model: nn.Module, args: tuple, inputs: dict[str, Any]) -> None:
        if not model.training:
            return
        history, items = inputs.get("history"), inputs.get("items")
        self._distinct["user"] = 0 if history is None else len(torch.unique(history, dim=0))
        self._distinct["item"] = 0 if items is None else len(items)
        if not self._frozen and len(getattr(model, "soft_prompts", ())) and "user_text_ids" in inputs:
            text = model.text_states_of(inputs["user_text_ids"][:8], inputs["user_text_mask"][:8]).segment
            self._frozen = {
                index: tuple(float(_sizes(part)[text.columns.real.to(part.device)].median()) for part in pair)
                for index, pair in text.layers.items()
            }

    def _of_side(self, side: str) -> Callable[[nn.Module, tuple, Any], None]:
        def check(generator: nn.Module, args: tuple, prompts: Any) -> None:
            if not self.model.training:
                return
            for index, pair in prompts.layers.items():
                for what, part, frozen in zip(("keys", "values"), pair, self._frozen.get(index, ()), strict=False):
                    size = float(_sizes(part.detach()).max())
                    if size > EXPLODED * frozen > 0:
                        self._stop(
                            f"the {side} soft prompts' {what} in layer {index} have grown to {size / frozen:.3g} "
                            f"times the size of the text's (a healthy run stays far below {EXPLODED:g})",
                            self._advice(),
                        )
            if generator.projector is None or self._distinct[side] < LEAST_ROWS:
                return
            vectors, n_prompts = args[0].detach(), args[0].shape[1]
            self._compare(f"ID vectors of a batch's {side}s", vectors)
            own = [part[:, :, -n_prompts:].detach().flatten(1) for pair in prompts.layers.values() for part in pair]
            self._compare(f"{side} soft prompts of a batch", torch.cat([part.to(own[0].device) for part in own], 1))

        return check

    def _after(self, model: nn.Module, args: tuple, output: Any) -> None:
        if not model.training or output.get("loss") is None:
            return
        loss = float(output["loss"].detach())
        if not math.isfinite(loss):
            self._stop(f"the loss is {loss}", self._advice())
        self._first_loss = loss if self._first_loss is None else self._first_loss
        if abs(loss) > EXPLODED_LOSS * max(1.0, abs(self._first_loss)):
            self._stop(f"the loss is {loss:.3g}, the first one was {self._first_loss:.3g}", self._advice())
        for side in ("user", "item"):
            states = output.get(f"{side}_states")
            if states is not None and self._distinct[side] >= LEAST_ROWS:
                self._compare(f"readout states of a batch's {side}s", states.detach())

    def _compare(self, what: str, rows: Tensor) -> None:
        rows = rows.float().flatten(1)
        size = rows.pow(2).mean().sqrt()
        if float((rows - rows.mean(0)).pow(2).mean().sqrt()) >= COLLAPSED * float(size):
            self._alike[what] = 0
            return
        self._alike[what] = self._alike.get(what, 0) + 1
        if self._alike[what] >= COLLAPSED_BATCHES:
            self._stop(
                f"the {what} have been nearly equal for {COLLAPSED_BATCHES} batches: they differ by less than "
                f"{COLLAPSED:.1%} of their size, which bfloat16 does not tell apart",
                "Check that the ID encoder's vectors differ from item to item and were trained on this catalogue."
                if what.startswith("ID vectors")
                else f"Lower the learning rate (it is {self.args.learning_rate:g}), raise the batch size, or lower "
                "`alignment_weight`.",
            )

    # stopping --------------------------------------------------------------------------------------------------------

    def _keep(self, step: int) -> None:
        trained = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        n_bytes = sum(parameter.numel() * parameter.element_size() for parameter in trained.values())
        if self._copy is not None and step - self._good_step < max(1, n_bytes // COPIED_A_STEP):
            return
        if self._copy is None:
            self._copy = {name: torch.empty_like(p, device="cpu") for name, p in trained.items()}
        for name, parameter in trained.items():
            self._copy[name].copy_(parameter.detach())
        self._good_step = step

    @torch.no_grad()
    def _stop(self, seen: str, advice: str) -> None:
        model, copy, step = self.model, self._copy, self.state.global_step
        self.release()
        for name, parameter in model.named_parameters():
            if name in copy:
                parameter.copy_(copy[name])
                parameter.grad = None
        if hasattr(model, "forget_representations"):
            model.forget_representations()
        folder = None
        if self.state.is_world_process_zero and hasattr(model, "save_pretrained"):
            folder = Path(self.args.output_dir) / LAST_GOOD
            model.save_pretrained(folder)
        raise TrainingDiverged(step, seen, advice, folder, self._good_step)

    def _advice(self) -> str:
        """By what of the model is not finite, if anything is."""
        broken = [(name, p) for name, p in self.model.named_parameters() if not _finite(p)]
        frozen = [name for name, parameter in broken if not parameter.requires_grad]
        lower = f"Lower the learning rate (it is {self.args.learning_rate:g}) or raise `warmup_steps`"
        if frozen:
            whose = "the ID encoder's vectors" if frozen[0].startswith("id_encoder.") else "the backbone's weights"
            return (
                f"`{frozen[0]}` is frozen and holds values that are not finite: check {whose}, no learning rate mends "
                "that."
            )
        if broken and self.state.global_step == 0:
            return f"`{broken[0][0]}` was not finite from the start: check the weights that training began with."
        return f"{lower}; if it goes on, check the ID encoder's vectors, or load the backbone in float32."


def _finite(tensor: Tensor) -> bool:
    values = tensor.detach()
    values = values.coalesce().values() if values.is_sparse else values
    # The sum of a large table is sooner looked at than each value; one that overflows is no answer
    return bool(torch.isfinite(values.sum())) or bool(torch.isfinite(values).all())


def _sizes(part: Tensor) -> Tensor:
    """Root mean square `(batch, n)` of each column of keys or values `(batch, heads, n, width)`."""
    return part.float().pow(2).mean((1, 3)).sqrt()


__all__ = ["LAST_GOOD", "DivergenceGuard", "TrainingDiverged"]
