"""SASRec over ID vectors and what the items' texts say together, as UniSRec (arXiv 2206.05941) and its like do."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers import initialization as init

from .catalogue_rows import pieces
from .configuration_id_encoders import TextSASRecConfig
from .id_encoder import change_marks
from .modeling_sasrec import SASRecModel

METRIC_UNIT = 0.1  # at the learning rate of the other weights the metric would leave the cosine at once


class TextSASRecModel(SASRecModel):
    """
    `F(u, i) = h_u . (e_i + W t_i) + g cos(q_u, t_i)`: SASRec whose item vectors are a trained embedding plus a trained
    projection of a frozen text vector t_i, beside the likeness of the texts themselves, q_u being the recency-weighted
    mean of the history's. Both are trained as one score, so that h_u learns what likeness does not say. An item that
    nobody chose yet is where its text puts it. With `text_metric` the cosine is of (I + A) t, A starting at zero: the
    metric begins as the plain cosine and learns from all interactions which differences of texts do not matter.

    Vectors are `[h_u, g q_u]` and `[e_i + W t_i, t_i]`; only the first part becomes soft prompts. The text vectors are
    part of the weights; `set_texts` gives them before training.
    """

    config_class = TextSASRecConfig
    base_model_prefix = "text_sasrec"

    item_tables = (*SASRecModel.item_tables, "texts")

    def __init__(self, config: TextSASRecConfig) -> None:
        super().__init__(config)
        self.register_buffer("texts", torch.zeros(config.n_items, config.text_dim))
        self.text_projection = nn.Linear(config.text_dim, config.hidden_size, bias=False)
        if config.text_metric:
            self.metric = nn.Linear(config.text_dim, config.text_dim, bias=False)  # A, in units of METRIC_UNIT
            self.log_gain = nn.Parameter(torch.zeros(()))  # of the gain over `text_gain`
        self._measured: tuple | None = None  # what it is of, and `all_measured()`
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module is getattr(self, "text_projection", None):
            init.normal_(module.weight, std=0.1)  # text vectors have length 1, so theirs is the weights' columns'
        elif module is getattr(self, "metric", None):
            init.zeros_(module.weight)
        elif module is self and self.config.text_metric:
            init.zeros_(self.log_gain)

    @torch.no_grad()
    def set_texts(self, texts: Tensor) -> None:
        """
        Gives the items' text vectors `(n_items, text_dim)`, best centred; they are made of length 1.

        Raises:
            ValueError: of another shape, or not finite.
        """
        if texts.shape != self.texts.shape or not bool(torch.isfinite(texts).all()):
            raise ValueError(
                f"Expected finite text vectors of shape {tuple(self.texts.shape)}, one an item, got "
                f"{tuple(texts.shape)}."
            )
        self.texts.copy_(nn.functional.normalize(texts.float(), dim=-1))

    @torch.no_grad()
    def add_items(self, nearest: Tensor, texts: Tensor) -> None:
        if texts.shape[1] != self.config.text_dim:
            raise ValueError(
                f"The ID encoder reads text vectors of width {self.config.text_dim}, the new items' have "
                f"{texts.shape[1]}: it was trained on other text vectors than this model's."
            )
        super().add_items(nearest, texts)
        self.texts = torch.cat([self.texts, texts.to(self.texts)])

    def look_up(self, items: Tensor) -> Tensor:
        vectors = super().look_up(items)
        if self.training and self.config.id_dropout:
            kept = torch.rand(*items.shape, 1, device=vectors.device) >= self.config.id_dropout
            vectors = vectors * kept
        return vectors + self._of_texts(self.text_projection, items)

    def _of_texts(self, layer: Callable[[Tensor], Tensor], items: Tensor) -> Tensor:
        """`layer` of the text vectors of items `(...)`; in training each item once, for popular ones repeat."""
        if not self.training:
            return layer(self.texts[items])
        distinct, places = items.unique(return_inverse=True)
        return layer(self.texts[distinct])[places]

    def measured(self, texts: Tensor) -> Tensor:
        """Text vectors as the likeness compares them, of length 1."""
        if not self.config.text_metric:
            return texts
        return nn.functional.normalize(texts + METRIC_UNIT * self.metric(texts), dim=-1)

    def all_measured(self) -> Tensor:
        """[`measured`] of all items, kept until the weights change: answering one user needs them whole."""
        if not self.config.text_metric or (torch.is_grad_enabled() and self.metric.weight.requires_grad):
            return self._measured_rows()
        marks = change_marks((self.metric.weight, self.texts))
        if marks is None:
            return self._measured_rows()
        of = (marks, torch.is_autocast_enabled(self.texts.device.type))
        known = self._measured  # read once: another thread may set it anew meanwhile
        if known is None or known[0] != of:
            self._measured = known = (of, self._measured_rows().detach())
        return known[1]

    def _measured_rows(self, rows: slice | None = None) -> Tensor:
        """[`measured`] of all items or some rows, in the pieces of the catalogue: the same bits in both."""
        if not self.config.text_metric:
            return self.texts if rows is None and self.rows is None else self.texts[self.held_rows(rows)]
        return torch.cat([self.measured(self.texts[self.held_rows(part)]) for part in self._pieces(rows)])

    def _pieces(self, rows: slice | None) -> list[slice]:
        n_items = self.config.n_items
        return pieces(n_items, None if rows is None else range(*rows.indices(n_items))) or [slice(0, 0)]

    def candidate_vectors(self, items: Tensor) -> Tensor:
        return torch.cat([self.look_up(items), self._of_texts(self.measured, items)], -1)

    def item_vectors(self, rows: slice | None = None) -> Tensor:
        table, parts = self.item_embeddings.weight, [self.held_rows(part) for part in self._pieces(rows)]
        vectors = torch.cat([table[part] + self.text_projection(self.texts[part]) for part in parts])
        return torch.cat([vectors, self.all_measured() if rows is None else self._measured_rows(rows)], -1)

    def position_vectors(self, history: Tensor) -> Tensor:
        states = self.states(history)
        texts = self._of_texts(self.measured, history.clamp(min=0)) * (history >= 0).unsqueeze(-1)
        at = torch.arange(history.shape[1], device=history.device)
        age = at.unsqueeze(1) - at
        used = (age >= 0) & (age < self.config.pooled_history)
        weights = torch.where(used, float(self.config.pooling_decay) ** age.clamp(min=0), 0.0)
        pooled = nn.functional.normalize(weights @ texts, dim=-1)
        gain = self.config.text_gain * (self.log_gain.exp() if self.config.text_metric else 1.0)
        return torch.cat([states, gain * pooled], -1).unsqueeze(2)

    def prompt_vectors(self, vectors: Tensor) -> Tensor:
        return vectors[..., : self.config.hidden_size]


__all__ = ["TextSASRecConfig", "TextSASRecModel"]
