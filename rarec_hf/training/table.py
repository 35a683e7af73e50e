"""The rows of the run's table: the model's opponents, and each row's ranks."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from accelerate import PartialState

from ..catalogue_texts import recency_pooled
from ..data.splits import Split
from ..evaluation import (
    Blend,
    EvaluationReport,
    ItemKNN,
    Popularity,
    TitleTfidf,
    TopItemsRecorder,
    coverage,
    popularity_bias,
    verdict,
)
from ..evaluation.evaluator import Scorer
from ..evaluation.ranks import Ranks
from ..id_encoder import IDEncoderModel, padded_histories
from ..modeling_rarec import RARecForSequentialRecommendation
from ..scoring import EncoderPlusLLMScore
from .id_encoder import encoder_name, encoder_scorer
from .ranking_trainer import RankingDataset

OURS, WITHOUT_READOUT, BAG_OF_WORDS = "RA-Rec", "RA-Rec without readout", " + TF-IDF"
OVER_WORDS = " over word counts"
ROW_OF_SCORE = {
    "encoder_plus_llm": OURS,
    "dot_product": "RA-Rec (paper's dot product)",
    "trained_head": "RA-Rec (trained_head)",
}


def text_only_scorer(model: RARecForSequentialRecommendation, batch_size: int = 64, progress: bool = True) -> Scorer:
    """
    The LLM's title states alone, untrained: cosine of the whitened text states, pooled over the history as in the
    full score. Needs an indexed catalogue; a score that keeps no text reads the titles once more.
    """
    config = model.config
    if model.score_head.uses_text:
        texts = model.catalogue_texts()
    else:
        states = model.encode_texts(range(len(model.processor.item_ids)), batch_size, progress, PartialState())
        n_layers = len(config.text_layers)
        head = EncoderPlusLLMScore(states.shape[1] // n_layers, config.text_dim, config.score_dim, n_layers)
        head.fit_whitening(states, config.text_ridge)
        texts = head.text(states)
    return pooled_text_scorer(texts, config.pooled_history or type(config)().pooled_history, config.pooling_decay)


def pooled_text_scorer(texts: torch.Tensor, latest: int, decay: float) -> Scorer:
    """Cosine of items' text vectors `(n_items, width)`, of length 1, and the recency-weighted mean of a history's."""

    @torch.no_grad()
    def score(histories: Sequence[np.ndarray]) -> np.ndarray:
        return (recency_pooled(texts, padded_histories(histories, latest), latest, decay) @ texts.T).numpy()

    return score


def rank_opponents(
    report: EvaluationReport,
    split: Split,
    test: RankingDataset,
    inner: IDEncoderModel,
    opponent: IDEncoderModel | None,
    exclude_seen: bool = True,
    known: RankingDataset | None = None,
    word_opponent: IDEncoderModel | None = None,
) -> None:
    """
    Adds the rows without an LLM to the report.

    Args:
        known ([`RankingDataset`], *optional*): validation targets, on which the weights of TF-IDF beside encoders are
            fitted; without them the row of the ID encoder is left out, the word opponent's has no TF-IDF.
        word_opponent ([`IDEncoderModel`], *optional*): see [`prepare_word_opponent`].
    """
    sequences, items = split.baseline_sequences(), split.interactions.items
    words = TitleTfidf().fit(items.words())
    rows = [
        ("Popularity", Popularity().fit(sequences, len(items)), ""),
        ("ItemKNN", ItemKNN().fit(sequences, len(items)), ""),
        ("TF-IDF of titles", words, ""),
    ]

    def beside_words(scorer: Scorer) -> Blend:
        return Blend.fit([scorer, words], known.histories, known.targets.targets, exclude_seen=exclude_seen)

    if opponent is not None:
        name = encoder_name(opponent)
        rows.append((name, encoder_scorer(opponent), "trained on all users"))
        rows.append((f"{encoder_name(inner)} inside RA-Rec", encoder_scorer(inner), "alignment users held out"))
    else:
        rows.append(("ID encoder", encoder_scorer(inner), "as loaded"))
    alone = rows[-1] if opponent is None else rows[-2]
    if known is not None and not getattr(alone[1], "takes_users", False):
        rows.append((f"{alone[0]}{BAG_OF_WORDS}", beside_words(alone[1]), "weights fitted on validation targets"))
    if word_opponent is not None:
        name, scorer = f"{encoder_name(word_opponent)}{OVER_WORDS}", encoder_scorer(word_opponent)
        if known is not None:
            name, scorer = f"{name}{BAG_OF_WORDS}", beside_words(scorer)
        rows.append((name, scorer, "no LLM, trained on all users"))
    for name, scorer, note in rows:
        add_row(report, name, test, scorer, note, exclude_seen=exclude_seen)


def without_readout_scorer(
    model: RARecForSequentialRecommendation, known: RankingDataset, exclude_seen: bool = True
) -> Blend | None:
    """The model's ID encoder and text vectors alone, their weights fitted anew: what the soft prompts have no part in.
    None where the score has no such parts."""
    encoder = encoder_scorer(model.id_encoder)
    if not (model.score_head.uses_text and model.score_head.uses_encoder) or encoder.takes_users:
        return None
    parts = [encoder, text_only_scorer(model)]
    return Blend.fit(parts, known.histories, known.targets.targets, exclude_seen=exclude_seen)


def verdict_of(report: EvaluationReport) -> str:
    """What the rows of a report say about the parts; see [`verdict`]."""
    ranks = {row.name: row.ranks for row in report.rows}
    encoder = ranks[report.reference]
    trained_with_words = next((found for name, found in ranks.items() if OVER_WORDS in name), None)
    return verdict(
        ranks[OURS],
        encoder,
        ranks.get(f"{report.reference}{BAG_OF_WORDS}"),
        ranks.get(WITHOUT_READOUT),
        trained_with_words,
    )


def beyond_accuracy(recorder: TopItemsRecorder, split: Split, test: RankingDataset) -> dict[str, float | int]:
    """
    What the first items of a ranked row tell beside its hits: the share of the catalogue that was recommended at all,
    how much more popular it is than what users chose, and how many items the training parts do not hold.
    """
    n_items = split.interactions.n_items
    counts = np.bincount(split.baseline_sequences().flat(), minlength=n_items)
    return {
        f"coverage@{recorder.k}": round(coverage(recorder.items, n_items), 4),
        f"popularity_bias@{recorder.k}": round(popularity_bias(recorder.items, test.targets.targets, counts), 4),
        "items_not_in_training": int((counts == 0).sum()),
    }


def add_row(
    report: EvaluationReport,
    name: str,
    test: RankingDataset,
    scorer: Scorer,
    note: str = "",
    batch_size: int = 256,
    exclude_seen: bool = True,
) -> Ranks:
    """Ranks the test targets with one scorer and adds the row, with the seconds it took."""
    start = time.perf_counter()
    ranks = test.rank(scorer, f"Ranking: {name}", batch_size=batch_size, exclude_seen=exclude_seen)
    report.add(name, ranks, seconds=time.perf_counter() - start, note=note)
    return ranks


__all__ = [
    "BAG_OF_WORDS",
    "OURS",
    "ROW_OF_SCORE",
    "WITHOUT_READOUT",
    "add_row",
    "beyond_accuracy",
    "pooled_text_scorer",
    "rank_opponents",
    "text_only_scorer",
    "verdict_of",
    "without_readout_scorer",
]
