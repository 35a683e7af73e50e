"""Stage one: the ID encoder, trained by full cross-entropy with early stopping."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import set_seed as set_processes_seed
from torch import nn
from torch.utils.data import Dataset
from transformers import EarlyStoppingCallback, TrainingArguments, set_seed
from transformers.trainer_pt_utils import get_length_grouped_indices

from ..data.splits import Split, Targets
from ..id_encoder import IDEncoderModel, catalogue_digest, change_marks, padded_histories
from ..id_encoders import ID_ENCODERS
from ..processes import several
from .arguments import EncoderArguments
from .ranking_trainer import RankingDataset, RankingTrainer
from .shared_batches import SeededOrders, ShareOfBatch

MOST_KEPT_BYTES = 2**30  # of items' vectors, by each scorer


class SequenceDataset(Dataset):
    """
    Training sequences cut into windows of `max_history` inputs and their next items. Windows are laid from the end, so
    that only the first of a sequence is short.
    """

    def __init__(self, sequences: Sequence[np.ndarray], max_history: int) -> None:
        self.windows = []
        for sequence in sequences:
            end = len(sequence)
            while end > 1:
                self.windows.append(sequence[max(0, end - max_history - 1) : end])
                end -= max_history
        if not self.windows:
            raise ValueError("No training sequence has two items; the ID encoder has nothing to learn from.")

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, row: int) -> np.ndarray:
        return self.windows[row]

    def lengths(self) -> list[int]:
        """Items of each window."""
        return [len(window) for window in self.windows]


class IDEncoderTrainer(RankingTrainer):
    """
    A [`RankingTrainer`] that keeps one gradient of the embedding table, however often a step looks items up.
    """

    def train(self, *args: Any, **kwargs: Any) -> Any:
        if self.args.world_size > 1:  # gradients of a second leaf would stay on their process
            return super().train(*args, **kwargs)
        table = self.model.item_embeddings.weight
        # Each lookup's gradient would be as large as the table, and would be added out of place to the loss's own
        self.model.lookup_table = table.detach().requires_grad_()
        try:
            return super().train(*args, **kwargs)
        finally:
            self.model.lookup_table = None

    def training_step(self, model: nn.Module, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss = super().training_step(model, *args, **kwargs)
        table, lookups = self.model.item_embeddings.weight, self.model.lookup_table
        if lookups is None:
            return loss
        if table.grad is None:
            table.grad = lookups.grad.to_dense()
        else:
            table.grad += lookups.grad
        lookups.grad = None
        return loss


class WindowCollator:
    """
    Makes `history` (padded with -1) and `labels` (padded with -100), both `(batch, length)`, and with `n_negatives`
    also `negatives` `(n_negatives,)`, drawn for the whole batch.

    Args:
        counts (`np.ndarray` of shape `(n_items,)`): how often each item stands in the training data.
        sampling (`str`): `"uniform"`, or `"popularity"` (in proportion to the counts plus one), which adds `log_q`
            `(n_items,)` to be corrected for.
    """

    def __init__(self, n_negatives: int = 0, counts: np.ndarray | None = None, sampling: str = "uniform") -> None:
        self.n_negatives, self.n_items = n_negatives, 0 if counts is None else len(counts)
        self.log_q = self.reached = None
        if n_negatives and sampling == "popularity":
            chances = (counts + 1.0) / (counts + 1.0).sum()
            self.log_q, self.reached = torch.as_tensor(chances).log().float(), torch.as_tensor(chances.cumsum())

    def __call__(self, windows: Sequence[np.ndarray]) -> dict[str, torch.Tensor]:
        length = max(len(window) for window in windows) - 1
        history = torch.full((len(windows), length), -1, dtype=torch.long)
        labels = torch.full((len(windows), length), -100, dtype=torch.long)
        for row, window in enumerate(windows):
            window = torch.as_tensor(np.asarray(window, dtype=np.int64))
            history[row, : len(window) - 1], labels[row, : len(window) - 1] = window[:-1], window[1:]
        batch = {"history": history, "labels": labels}
        if self.n_negatives:
            if self.reached is None:
                batch["negatives"] = torch.randint(0, self.n_items, (self.n_negatives,))
            else:  # a search in the running sum: a draw costs nothing that grows with the catalogue
                drawn = torch.searchsorted(self.reached, torch.rand(self.n_negatives, dtype=torch.double))
                batch |= {"negatives": drawn.clamp(max=self.n_items - 1), "log_q": self.log_q}
        return batch


def encoder_scorer(encoder: IDEncoderModel) -> Any:
    """The encoder alone as a scorer: `(histories, users) -> (n, n_items)`; see `IDEncoderModel.user_vectors`. Items'
    vectors are kept until the weights change, if they are small: an encoder over texts takes longer for them than for
    a batch's scores."""
    kept: dict[str, Any] = {"of": None, "vectors": None}

    def item_vectors() -> torch.Tensor:
        of = change_marks([*encoder.parameters(), *encoder.buffers()])
        if of is not None and of == kept["of"]:
            return kept["vectors"]
        vectors = encoder.item_vectors()
        if of is not None and vectors.nbytes <= MOST_KEPT_BYTES:
            kept.update(of=of, vectors=vectors)
        return vectors

    @torch.no_grad()
    def score(histories: Sequence[np.ndarray], users: np.ndarray | None = None) -> np.ndarray:
        encoder.eval()
        padded = padded_histories(histories, encoder.config.max_history)
        rows = None if users is None else torch.as_tensor(np.asarray(users, dtype=np.int64)).to(encoder.device)
        vectors = encoder.user_vectors(padded.to(encoder.device), rows)
        return encoder.scores(vectors, item_vectors()).float().cpu().numpy()

    score.takes_users = encoder.takes_users
    return score


def new_id_encoder(arguments: EncoderArguments, **fields: Any) -> IDEncoderModel:
    """An untrained encoder of the type and sizes that the arguments say; `fields` of its config besides."""
    if arguments.encoder_objective != "cross_entropy" and not arguments.encoder_negatives:
        raise ValueError(
            f"--encoder_objective {arguments.encoder_objective} needs --encoder_negatives, how many are drawn a batch."
        )
    model = ID_ENCODERS[f"rarec_{arguments.encoder_type}"]
    sizes = {
        "hidden_size": arguments.encoder_hidden_size,
        "num_hidden_layers": arguments.encoder_layers,
        "num_attention_heads": arguments.encoder_heads,
        "max_history": arguments.encoder_max_history,
        "block": arguments.encoder_block,
        "intermediate_size": arguments.encoder_intermediate_size or None,
        "dropout": arguments.encoder_dropout,
        "attention_dropout": arguments.encoder_attention_dropout,
        "objective": arguments.encoder_objective,
        "weighted_negatives": arguments.encoder_weighted_negatives and arguments.encoder_negatives > 0,
        "variant": arguments.encoder_variant,
        "interests": arguments.encoder_interests,
        "text_gain": arguments.encoder_text_gain,
        "text_metric": arguments.encoder_text_metric,
        "id_dropout": arguments.encoder_id_dropout,
    }
    known = {field.name for field in dataclasses.fields(model.config_class)}
    return model(model.config_class(**{n: v for n, v in sizes.items() if n in known}, **fields))


def encoder_name(encoder: IDEncoderModel) -> str:
    """As tables call it: `SASRec` for a `SASRecModel`."""
    return type(encoder).__name__.removesuffix("Model")


def train_id_encoder(
    split: Split,
    sequences: Sequence[np.ndarray],
    validation: Targets | None,
    arguments: EncoderArguments,
    work_folder: str | Path,
    seed: int,
    training_data: str | None,
    disable_tqdm: bool = False,
    texts: torch.Tensor | None = None,
    resumable: bool = False,
) -> tuple[IDEncoderModel, list[dict]]:
    """
    Trains an ID encoder on `sequences` and keeps the epoch with the best validation NDCG@10.

    Args:
        validation (`Targets`, *optional*): if not given, training runs over all of `encoder_epochs` and keeps the end.
        training_data (`str`, *optional*): digest of what it is trained on, kept in its config as provenance.
        texts (`torch.FloatTensor` of shape `(n_items, text_dim)`, *optional*): the items' text vectors, for a type
            that reads them.
        resumable (`bool`): keep a whole checkpoint in `work_folder` after every epoch, and go on from the last.

    Returns:
        The encoder and the Trainer's log history.
    """
    set_seed(seed)
    encoder = new_id_encoder(
        arguments,
        n_items=split.interactions.n_items,
        training_data=training_data,
        catalogue=catalogue_digest(split.interactions.items.item_ids),
        **({} if texts is None else {"text_dim": texts.shape[1]}),
    )
    if texts is not None:
        encoder.set_texts(texts)
    collator = WindowCollator(
        arguments.encoder_negatives,
        np.bincount(np.concatenate([np.asarray(s) for s in sequences]), minlength=split.interactions.n_items),
        arguments.encoder_negative_sampling,
    )
    training = TrainingArguments(
        output_dir=str(work_folder),
        num_train_epochs=arguments.encoder_epochs,
        per_device_train_batch_size=arguments.encoder_batch_size,
        learning_rate=arguments.encoder_learning_rate,
        weight_decay=arguments.encoder_weight_decay,
        lr_scheduler_type=arguments.encoder_lr_scheduler,
        warmup_steps=arguments.encoder_warmup_steps,
        eval_strategy="epoch" if validation else "no",
        save_strategy="epoch" if validation or resumable else "no",
        save_total_limit=2,
        save_only_model=not resumable,
        logging_strategy="epoch",
        load_best_model_at_end=bool(validation),
        metric_for_best_model="ndcg@10",
        greater_is_better=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        report_to="none",
        disable_tqdm=disable_tqdm,
        seed=seed,
        use_cpu=not torch.cuda.is_available(),  # as RARecTrainingArguments: processes know of each other by it
        ddp_broadcast_buffers=None if texts is None else False,  # frozen, and as large as the catalogue
    )
    data = SequenceDataset(sequences, encoder.config.max_history)
    # Windows of like length together, so that little is computed for padding
    lengths, batch_size = data.lengths(), training.train_batch_size * training.world_size
    orders = SeededOrders(
        len(data), lambda generator: get_length_grouped_indices(lengths, batch_size, generator=generator), seed
    )
    process = PartialState()
    if several(process):
        # Each position of a window is learnt from
        collator = ShareOfBatch(collator, lambda window: len(window) - 1, process)
    trainer = IDEncoderTrainer(
        model=encoder,
        args=training,
        train_dataset=data,
        eval_dataset=RankingDataset(split.interactions, validation) if validation else None,
        data_collator=collator,
        callbacks=[EarlyStoppingCallback(arguments.encoder_patience)] if validation else [],
        scorer=lambda: encoder_scorer(encoder),
        sampler=orders,
    )
    if several(process):
        set_processes_seed(seed, device_specific=True)  # else all would drop the same places
    trainer.go_on() if resumable else trainer.train()
    return encoder.eval(), trainer.state.log_history


__all__ = [
    "SequenceDataset",
    "WindowCollator",
    "encoder_name",
    "encoder_scorer",
    "new_id_encoder",
    "train_id_encoder",
]
