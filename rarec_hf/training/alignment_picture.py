"""What the alignment does to representations: the paper's figure, and numbers beside it, during training and after."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from ..catalogue_texts import length_sorted_batches
from ..data.splits import Split
from ..evaluation.alignment_map import chosen_together, linear_cka, neighbour_overlap, plot_alignment, uniformity
from ..evaluation.breakdown import popularity_groups
from ..id_encoder import IDEncoderModel
from ..joint_passes import finish_passes
from ..modeling_rarec import RARecForSequentialRecommendation
from ..whole_files import replacing
from .id_encoder import encoder_name
from .loaded_encoder import load_id_encoder

POPULARITY = ("unseen", "tail", "mid", "head")


@dataclass
class Shown:
    """
    What is drawn.

    Args:
        items (`np.ndarray` of shape `(n,)`): item indices.
        groups (`list[str]`): each item's group: its category where there is one, else its popularity.
        histories (`list[np.ndarray]`): of the users drawn.
        related (`dict[int, list[int]]`): items that the same users chose within three steps, by place in `items`.
    """

    items: np.ndarray
    groups: list[str]
    histories: list[np.ndarray]
    related: dict[int, list[int]]

    @classmethod
    def of(cls, split: Split, seed: int = 0, n_items: int = 1500, n_users: int = 150) -> Shown:
        """A seeded draw of items, in proportion to the square root of how often they were chosen, and of users."""
        rng, interactions = np.random.default_rng(seed), split.interactions
        sequences = split.baseline_sequences()
        counts = np.bincount(sequences.flat(), minlength=interactions.n_items)
        chances = np.sqrt(counts + 1.0) / np.sqrt(counts + 1.0).sum()
        items = np.sort(rng.choice(len(counts), min(n_items, len(counts)), replace=False, p=chances))
        attributes = [interactions.items.attributes[item] for item in items]
        name = next(iter(attributes[0]), None)
        if name is not None and len({a.get(name) for a in attributes}) <= len(items) // 4:
            groups = [str(a.get(name, "")) for a in attributes]
        else:
            groups = [POPULARITY[group] for group in popularity_groups(counts)[items]]
        rows = rng.choice(len(split.validation), min(n_users, len(split.validation)), replace=False)
        histories = [split.validation.history(interactions, int(row)) for row in rows]
        return cls(items, groups, histories, chosen_together(sequences, items))


def representations(model: RARecForSequentialRecommendation, shown: Shown) -> dict[str, np.ndarray]:
    """Items `(n, width)` as RA-Rec, the LLM alone (mean states of the titles) and the ID encoder see them."""
    return {
        "RA-Rec": model.represent_items(shown.items).numpy(),
        "LLM alone": model.encode_texts(shown.items, progress=False).numpy(),
        **encoder_items(model.id_encoder, shown),
    }


def encoder_items(encoder: IDEncoderModel, shown: Shown) -> dict[str, np.ndarray]:
    """The items' vectors `(n, hidden_size)` in an ID encoder, by its name."""
    vectors = encoder.prompt_vectors(encoder.item_vectors().detach())
    return {encoder_name(encoder): vectors.float().cpu().numpy()[shown.items]}


@torch.no_grad()
def text_states(
    text_encoder: str | Path, texts: Sequence[str], batch_size: int = 64, progress: bool = False
) -> Tensor:
    """Mean token states `(n, width)` of texts in any text model of the Hub or a folder, such as BERT."""
    tokenizer, model = AutoTokenizer.from_pretrained(text_encoder), AutoModel.from_pretrained(text_encoder).eval()
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    states = torch.empty(len(texts), model.config.hidden_size)
    batches = length_sorted_batches([len(text) for text in texts], batch_size)
    for rows in tqdm(batches, desc="Text encoder", unit="batch", disable=not progress):
        inputs = tokenizer(
            [texts[row] for row in rows], padding=True, truncation=True, max_length=64, return_tensors="pt"
        )
        mask = inputs["attention_mask"].unsqueeze(-1)
        states[rows] = (model(**inputs).last_hidden_state.float() * mask).sum(1) / mask.sum(1)
    return states


def others(
    split: Split, shown: Shown, text_encoder: str | None = None, id_encoders: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """
    The same items in other models, to be drawn beside RA-Rec.

    Args:
        text_encoder (`str`, *optional*): folder or Hub id of a text model, called by its type.
        id_encoders (`list[str]`): folders of ID encoders of the same catalogue.

    Raises:
        ValueError: an ID encoder is of another catalogue.
    """
    found = {}
    if text_encoder is not None:
        titles = split.interactions.items.titles
        name = AutoConfig.from_pretrained(text_encoder).model_type.upper()
        found[name] = text_states(text_encoder, [titles[item] for item in shown.items]).numpy()
    for folder in id_encoders:
        # Trusted, as nothing is learnt from it here
        found |= encoder_items(load_id_encoder(folder, split, trust=True), shown)
    return found


def numbers(found: dict[str, np.ndarray], shown: Shown) -> dict[str, dict[str, float]]:
    """Of each model: overlap of neighbours with what is chosen together, uniformity, CKA with the others."""
    table: dict[str, dict[str, float]] = {}
    for name, vectors in found.items():
        row = {"uniformity": uniformity(vectors)}
        if shown.related:
            row["neighbour_overlap@10"] = neighbour_overlap(vectors, shown.related)
        row |= {f"cka with {other}": linear_cka(vectors, found[other]) for other in found if other != name}
        table[name] = {key: round(value, 4) for key, value in row.items()}
    return table


def draw(
    model: RARecForSequentialRecommendation,
    shown: Shown,
    path: Path,
    method: str = "tsne",
    seed: int = 0,
    beside: dict[str, np.ndarray] | None = None,
) -> dict[str, dict[str, float]]:
    """
    Writes the picture and returns the numbers; users are drawn among RA-Rec's items, once the texts of all items in
    their histories were read.

    Args:
        beside (`dict[str, np.ndarray]`, *optional*): of [`others`].
    """
    found, users = seen_by(model, shown, beside)
    plot_alignment(found, shown.groups, path, method, users, seed)
    return numbers(found, shown)


def seen_by(
    model: RARecForSequentialRecommendation, shown: Shown, beside: dict[str, np.ndarray] | None = None
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Items and users as [`draw`] shows them, by the model's name."""
    found, users = representations(model, shown), {}
    found |= {name: vectors for name, vectors in (beside or {}).items() if name not in found}
    if not model.score_head.uses_text or model.has_all_texts:
        users["RA-Rec"] = model.represent_users(shown.histories)[0].float().cpu().numpy()
    return found, users


def numbers_table(found: dict[str, dict[str, float]]) -> list[str]:
    """Lines of a markdown table of [`numbers`]."""
    names = list(dict.fromkeys(key for row in found.values() for key in row))
    lines = ["| | " + " | ".join(names) + " |", "| :--- |" + " ---: |" * len(names)]
    for name, row in found.items():
        lines.append(f"| {name} | " + " | ".join(f"{row[key]:.3f}" if key in row else "" for key in names) + " |")
    return lines


class AlignmentMapCallback(TrainerCallback):
    """
    Draws `step-N.png` at the start and after every epoch, and keeps the numbers in `numbers.json`.

    Args:
        model ([`RARecForSequentialRecommendation`]): being trained.
        shown ([`Shown`]): what is drawn, the same every time.
        folder (`str` or `Path`): made if it is not there.
    """

    def __init__(
        self,
        model: RARecForSequentialRecommendation,
        shown: Shown,
        folder: str | Path,
        method: str = "tsne",
        seed: int = 0,
    ) -> None:
        self.model, self.shown, self.folder, self.method, self.seed = model, shown, Path(folder), method, seed
        self.history: list[dict] = []

    @classmethod
    def of(
        cls, model: RARecForSequentialRecommendation, split: Split, folder: str | Path, seed: int = 0
    ) -> AlignmentMapCallback:
        """With a seeded draw of the split's items and users."""
        return cls(model, Shown.of(split, seed), folder, seed=seed)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        file = self.folder / "numbers.json"
        if state.global_step and file.exists():  # it goes on from a checkpoint
            drawn = json.loads(file.read_text("utf-8"))
            self.history = [row for row in drawn if row["step"] <= state.global_step]
        of_this = not self.history or self.history[-1]["step"] < state.global_step
        if not state.global_step or (of_this and float(state.epoch).is_integer()):
            self._draw(state)  # at the start, or at the end of an epoch that was cut off before

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._draw(state)

    def _draw(self, state: TrainerState) -> None:
        if not state.is_world_process_zero:
            return finish_passes()
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"step-{state.global_step:06d}.png"
        found = draw(self.model, self.shown, path, self.method, self.seed)
        finish_passes()
        self.history.append({"step": state.global_step, **found})
        with replacing(self.folder / "numbers.json") as temporary:
            temporary.write_text(json.dumps(self.history, indent=1) + "\n", "utf-8")


__all__ = [
    "AlignmentMapCallback",
    "Shown",
    "draw",
    "encoder_items",
    "numbers",
    "numbers_table",
    "others",
    "representations",
    "seen_by",
    "text_states",
]
