"""The rows of the table: each makes a scorer of the world and says what it took."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from benchmarks.quality.rarec import train_rarec
from benchmarks.quality.recipes import (
    COMIREC,
    COSINE,
    LONG,
    LONG_HISTORY,
    LONG_TEXT,
    SPARSE,
    SPARSE_TEXT,
    TEXT_EPOCHS,
    TEXT_WINDOWS,
    WEIGHTED_WIDE,
    WIDE,
    WIDE_TEXT,
)
from benchmarks.quality.world import World
from rarec_hf.evaluation import EASE, ItemKNN, Popularity, TitleTfidf
from rarec_hf.training.arguments import EncoderArguments
from rarec_hf.training.id_encoder import encoder_scorer

MOST_ITEMS_OF_EASE = 40_000  # an inverse of n_items x n_items: 5.5 GiB and 11 minutes for Books' 38,519, twice


@dataclass
class Result:
    """A scorer, how many parameters were trained for it, and what a reader must know."""

    scorer: Callable
    parameters: int = 0
    facts: dict = field(default_factory=dict)
    batch_size: int = 256


@dataclass(frozen=True)
class Row:
    """
    Args:
        name (`str`): in the table.
        kind (`str`): `"id"`, `"text"` (no LLM), `"llm"` or `"ours"`.
        make: `(world, seed) -> Result`.
        seeded (`bool`): another seed gives another result.
        long (`bool`): hours on a CPU; run if it is named, or with all that are long.
    """

    name: str
    kind: str
    make: Callable[[World, int], Result]
    seeded: bool = True
    long: bool = False


def _knn(world):
    return ItemKNN().fit(world.sequences(), world.n_items)


def _tfidf(world):
    return TitleTfidf().fit(world.texts)


def sasrec(world: World, seed: int, all_users: bool = True):
    more = [LONG] if _long_histories(world) else [WIDE | COSINE, WEIGHTED_WIDE | COSINE]
    return world.encoder("sasrec", [SPARSE, WIDE, WEIGHTED_WIDE, *more], seed, all_users=all_users)


def _long_histories(world: World) -> bool:
    return bool(np.median(world.split.train_ends[world.users]) > LONG_HISTORY)


def comirec(world: World, seed: int):
    return world.encoder("comirec", [COMIREC, COMIREC | {"encoder_weighted_negatives": True}], seed)


def text_sasrec(world: World, source: str, seed: int, all_users: bool = True):
    windows = -(-world.split.train_ends[world.users] // EncoderArguments().encoder_max_history).sum()
    least, most = TEXT_EPOCHS
    longest = min(most, max(least, round(TEXT_WINDOWS / windows)))
    # So many epochs may overfit, on few users above all: shorter trainings stand to choose too
    lengths = sorted({max(least, round(longest / part)) for part in (1, 3, 10)}, reverse=True)
    recipes = [_of_length(SPARSE_TEXT, epochs) for epochs in lengths] + [_of_length(WIDE_TEXT, longest)]
    if _long_histories(world):
        recipes.append(LONG_TEXT)
    texts = world.text_vectors(source)
    return world.encoder(f"text_sasrec_{source}", recipes, seed, texts, all_users, stretched=False)


def _of_length(recipe: dict, epochs: int) -> dict:
    return recipe | {"encoder_epochs": epochs, "encoder_patience": epochs}


def _plain(make) -> Callable:
    return lambda world, seed: Result(make(world))


def _encoder(make, *arguments) -> Callable:
    def run(world: World, seed: int) -> Result:
        encoder, facts = make(world, *arguments, seed)
        return Result(encoder_scorer(encoder), facts["parameters"], facts)

    return run


def _blend(*makers) -> Callable:
    """Scorers with weights fitted on validation targets; each maker gives a Result."""

    def run(world: World, seed: int) -> Result:
        parts = [make(world, seed) for make in makers]
        blend = world.blend(*(part.scorer for part in parts))
        weights = [float(f"{weight:.3g}") for weight in blend.weights]
        facts = {"weights": weights} | _together([part.facts for part in parts])
        return Result(blend, sum(part.parameters for part in parts) + len(weights), facts)

    return run


def _together(facts: list[dict]) -> dict:
    """Facts of a blend: of its first encoder, the others' `beside`, the seconds of all."""
    encoders, others = [one for one in facts if "recipe" in one], [one for one in facts if "recipe" not in one]
    found = {key: value for one in [*encoders[:1], *others] for key, value in one.items()}
    if len(encoders) > 1:
        found |= {"beside": encoders[1:], "seconds": round(sum(one["seconds"] for one in encoders), 1)}
    return found


def _text(source: str) -> Callable:
    return lambda world, seed: Result(world.text_scorer(source), 0, {"text_seconds": world.seconds_of_texts(source)})


def _with_texts(source: str, *more) -> Callable:
    """Our recipe without readout: an encoder over ID and text vectors, beside the likeness of texts."""
    return _blend(_encoder(text_sasrec, source), _text(source), *more)


def _with_words(*more) -> Callable:
    """The same without any language model: the texts' vectors are of TF-IDF."""
    return _blend(_encoder(text_sasrec, "tfidf"), _plain(_tfidf), *more)


def _shuffled(make) -> Callable:
    """The same model, each user's history in a random order."""

    def run(world: World, seed: int) -> Result:
        result = make(world, seed)
        inner, rng = result.scorer, np.random.default_rng(seed)
        result.scorer = lambda histories: inner([rng.permutation(history) for history in histories])
        return result

    return run


def _rarec(**changes) -> Callable:
    """RA-Rec with soft prompts and readouts through the LLM; `changes` as `train_rarec` takes them."""

    def run(world: World, seed: int) -> Result:
        texts = changes.get("encoder", "text_sasrec") == "text_sasrec"
        make = partial(text_sasrec, world, "llm") if texts else partial(sasrec, world)
        inner, facts = make(seed, all_users=False)
        settings = {name: value for name, value in changes.items() if name != "encoder"}
        model, trained, found = train_rarec(world, inner, seed, **settings)
        if model.score_head.uses_encoder or model.config.use_soft_prompts:
            trained += facts["parameters"]
        size = 64 if world.device.type == "cpu" else world.batch_size
        return Result(partial(model.score_histories, batch_size=size), trained, facts | found, batch_size=size)

    return run


def ease(world: World, seed: int) -> Result | None:
    if world.n_items > MOST_ITEMS_OF_EASE:
        return None
    return Result(EASE().fit(world.sequences(), world.n_items))


TEXT_ALONE = {"encoder": "sasrec", "score": "trained_head", "use_soft_prompts": False, "alignment_weight": 0.0}
PAPER = {"encoder": "sasrec", "soft_prompt_position": "before_text", "score": "dot_product"}
ROWS = {
    "popularity": Row("Popularity", "id", _plain(lambda w: Popularity().fit(w.sequences(), w.n_items)), False),
    "itemknn": Row("ItemKNN", "id", _plain(_knn), False),
    "ease": Row("EASE", "id", ease, False),
    "sasrec": Row("SASRec", "id", _encoder(sasrec)),
    "comirec": Row(
        "ComiRec-SA",
        "id",
        _encoder(comirec),
    ),
    "gru4rec": Row(
        "GRU4Rec",
        "id",
        _encoder(
            lambda w, s: w.encoder("gru4rec", [r | {"encoder_type": "gru4rec"} for r in (WIDE, WEIGHTED_WIDE)], s)
        ),
    ),
    "tfidf": Row("TF-IDF", "text", _plain(_tfidf), False),
    "minilm": Row("MiniLM, untrained two towers", "text", _text("minilm"), False),
    "sasrec_tfidf": Row("SASRec + TF-IDF", "text", _blend(_encoder(sasrec), _plain(_tfidf))),
    "itemknn_tfidf": Row("ItemKNN + TF-IDF", "text", _blend(_plain(_knn), _plain(_tfidf)), False),
    "sasrec_itemknn_tfidf": Row(
        "SASRec + ItemKNN + TF-IDF", "text", _blend(_encoder(sasrec), _plain(_knn), _plain(_tfidf))
    ),
    "tfidf_both": Row("SASRec over ID and TF-IDF vectors + TF-IDF", "text", _with_words()),
    "tfidf_all": Row("SASRec over ID and TF-IDF vectors + TF-IDF + ItemKNN", "text", _with_words(_plain(_knn))),
    "tfidf_sasrec_all": Row(
        "SASRec over ID and TF-IDF vectors + TF-IDF + SASRec + ItemKNN",
        "text",
        _with_words(_encoder(sasrec), _plain(_knn)),
    ),
    "text_sasrec_minilm": Row("SASRec over ID and MiniLM vectors", "text", _encoder(text_sasrec, "minilm")),
    "minilm_both": Row("SASRec over ID and MiniLM vectors + MiniLM likeness", "text", _with_texts("minilm")),
    "minilm_tfidf": Row(
        "SASRec over ID and MiniLM vectors + MiniLM likeness + TF-IDF", "text", _with_texts("minilm", _plain(_tfidf))
    ),
    "minilm_all": Row(
        "SASRec over ID and MiniLM vectors + MiniLM likeness + ItemKNN + TF-IDF",
        "text",
        _with_texts("minilm", _plain(_knn), _plain(_tfidf)),
    ),
    "minilm_sasrec_all": Row(
        "SASRec over ID and MiniLM vectors + MiniLM likeness + SASRec + ItemKNN + TF-IDF",
        "text",
        _with_texts("minilm", _encoder(sasrec), _plain(_knn), _plain(_tfidf)),
    ),
    "llm_text": Row("LLM text, untrained two towers", "llm", _text("llm"), False),
    "layer0": Row("Ours without readout, LLM replaced by its token embeddings", "llm", _with_texts("layer0")),
    "random": Row("Ours without readout, LLM with random weights", "llm", _with_texts("random")),
    "ours_no_readout": Row("Ours without readout", "ours", _with_texts("llm")),
    "ours_shuffled": Row("Ours without readout, history shuffled", "ours", _shuffled(_with_texts("llm"))),
    "ours_tfidf": Row("Ours without readout + TF-IDF", "ours", _with_texts("llm", _plain(_tfidf))),
    "ours_all": Row(
        "Ours without readout + ItemKNN + TF-IDF", "ours", _with_texts("llm", _plain(_knn), _plain(_tfidf))
    ),
    "ours_sasrec_all": Row(
        "Ours without readout + SASRec + ItemKNN + TF-IDF",
        "ours",
        _with_texts("llm", _encoder(sasrec), _plain(_knn), _plain(_tfidf)),
    ),
    "rarec": Row("RA-Rec: ours with soft prompts and readout", "ours", _rarec()),
    "rarec_no_prompts": Row("RA-Rec, soft prompts off", "ours", _rarec(use_soft_prompts=False, alignment_weight=0.0)),
    "rarec_sasrec": Row("RA-Rec around a SASRec without texts", "ours", _rarec(encoder="sasrec")),
    "rarec_prefix": Row("RA-Rec, no ID vectors (prefix tuning)", "ours", _rarec(use_id_vectors=False)),
    "rarec_shared": Row("RA-Rec, one projector for all layers", "ours", _rarec(layer_specific_projectors=False)),
    "rarec_no_context": Row("RA-Rec, no contextual instruction", "ours", _rarec(context_length=0)),
    "rarec_no_alignment": Row("RA-Rec, no alignment loss", "ours", _rarec(alignment_weight=0.0)),
    "rarec_random_samples": Row("RA-Rec, random samples", "ours", _rarec(user_diversity=False, item_diversity=False)),
    "rarec_permuted": Row("RA-Rec, ID vectors permuted", "ours", _rarec(permute=True)),
    "direct": Row(
        "ID direct usage: item numbers as text, both towers",
        "llm",
        _rarec(numbers=True, **TEXT_ALONE),
    ),
    "translation": Row(
        "ID translation: titles alone, both towers",
        "llm",
        _rarec(**TEXT_ALONE),
    ),
    "paper": Row(
        "RA-Rec as in the paper",
        "llm",
        _rarec(**PAPER),
    ),
}
# The same from 8,192 samples (or all, if there are fewer) instead of 384, which are 24 steps
MORE = {"samples": 8192, "epochs": 5, "samples_a_batch": 64}
ROWS |= {
    "rarec_8192": Row("RA-Rec, 8,192 samples", "ours", _rarec(**MORE), long=True),
    "rarec_no_prompts_8192": Row(
        "RA-Rec, soft prompts off, 8,192 samples",
        "ours",
        _rarec(use_soft_prompts=False, alignment_weight=0.0, **MORE),
        long=True,
    ),
    "rarec_prefix_8192": Row(
        "RA-Rec, no ID vectors (prefix tuning), 8,192 samples", "ours", _rarec(use_id_vectors=False, **MORE), long=True
    ),
    "rarec_sasrec_8192": Row(
        "RA-Rec around a SASRec without texts, 8,192 samples", "ours", _rarec(encoder="sasrec", **MORE), long=True
    ),
    "direct_8192": Row(
        "ID direct usage: item numbers as text, both towers, 8,192 samples",
        "llm",
        _rarec(numbers=True, **TEXT_ALONE, **MORE),
        long=True,
    ),
    "translation_8192": Row(
        "ID translation: titles alone, both towers, 8,192 samples", "llm", _rarec(**TEXT_ALONE, **MORE), long=True
    ),
    "paper_8192": Row("RA-Rec as in the paper, 8,192 samples", "llm", _rarec(**PAPER, **MORE), long=True),
    "paper_prefix_8192": Row(
        "RA-Rec as in the paper, no ID vectors (prefix tuning), 8,192 samples",
        "llm",
        _rarec(**PAPER, use_id_vectors=False, **MORE),
        long=True,
    ),
}


__all__ = ["ROWS", "Result", "Row", "comirec", "sasrec", "text_sasrec"]
