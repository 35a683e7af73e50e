"""The rows of the table: each makes a scorer of the world and says what it took."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from benchmarks.quality.world import TEXT_STATES_BYTES, World
from rarec_hf.evaluation import EASE, ItemKNN, Popularity, TitleTfidf
from rarec_hf.training import job
from rarec_hf.training.arguments import EncoderArguments, RARecTrainingArguments
from rarec_hf.training.id_encoder import encoder_scorer
from rarec_hf.training.ranking_trainer import RankingDataset

MOST_ITEMS_OF_EASE = 15_000  # an inverse of n_items x n_items: beyond, many minutes of two cores

SPARSE = {
    "encoder_block": "pre_norm",
    "encoder_layers": 1,
    "encoder_heads": 1,
    "encoder_dropout": 0.4,
    "encoder_batch_size": 128,
    "encoder_negatives": 2048,
    "encoder_weighted_negatives": True,
    "encoder_learning_rate": 2e-3,
    "encoder_epochs": 24,
    "encoder_patience": 3,
}
WIDE = {
    "encoder_block": "original",
    "encoder_hidden_size": 128,
    "encoder_heads": 1,
    "encoder_layers": 1,
    "encoder_dropout": 0.5,
    "encoder_batch_size": 64,
    "encoder_negatives": 512,
    "encoder_learning_rate": 1e-3,
    "encoder_epochs": 24,
    "encoder_patience": 3,
}
WEIGHTED_WIDE = WIDE | {"encoder_weighted_negatives": True}
TEXT = SPARSE | {
    "encoder_type": "text_sasrec",
    "encoder_text_gain": 5.0,
    "encoder_text_metric": True,
    "encoder_id_dropout": 0.3,
    "encoder_epochs": 4,  # at least; a constant rate overfits from the third to fifth on Clothing
    "encoder_patience": 4,
    "encoder_lr_scheduler": "cosine",
}
TEXT_STEPS = 1200  # at least: small data sets get more epochs
COMIREC = {
    "encoder_type": "comirec",
    "encoder_dropout": 0.3,
    "encoder_batch_size": 64,
    "encoder_negatives": 512,
    "encoder_learning_rate": 3e-3,
    "encoder_epochs": 15,
    "encoder_patience": 2,
}


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
    """

    name: str
    kind: str
    make: Callable[[World, int], Result]
    seeded: bool = True


def _knn(world):
    return ItemKNN().fit(world.sequences(), world.n_items)


def _tfidf(world):
    return TitleTfidf().fit(world.texts)


def _sasrec(world: World, seed: int, all_users: bool = True):
    return world.encoder("sasrec", [SPARSE, WIDE, WEIGHTED_WIDE], seed, all_users=all_users)


def _text_sasrec(world: World, source: str, seed: int, all_users: bool = True):
    windows = -(-world.split.train_ends // EncoderArguments().encoder_max_history).sum()
    epochs = max(TEXT["encoder_epochs"], round(TEXT_STEPS * TEXT["encoder_batch_size"] / windows))
    recipe = TEXT | {"encoder_epochs": epochs, "encoder_patience": epochs}
    return world.encoder(f"text_sasrec_{source}", [recipe], seed, world.text_vectors(source), all_users)


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
        facts = {"weights": weights} | {k: v for part in parts for k, v in part.facts.items()}
        return Result(blend, sum(part.parameters for part in parts) + len(weights), facts)

    return run


def _text(source: str) -> Callable:
    return lambda world, seed: Result(world.text_scorer(source), 0, {"text_seconds": world.seconds_of_texts(source)})


def _with_texts(source: str, *more) -> Callable:
    """Our recipe without readout: an encoder over ID and text vectors, beside the likeness of texts."""
    return _blend(_encoder(_text_sasrec, source), _text(source), *more)


def _shuffled(make) -> Callable:
    """The same model, each user's history in a random order."""

    def run(world: World, seed: int) -> Result:
        result = make(world, seed)
        inner, rng = result.scorer, np.random.default_rng(seed)
        result.scorer = lambda histories: inner([rng.permutation(history) for history in histories])
        return result

    return run


def _rarec(
    encoder: str = "text_sasrec", samples: int = 384, permute: bool = False, numbers: bool = False, **changes
) -> Callable:
    """
    RA-Rec with soft prompts and readouts through the LLM; `changes` are `AlignmentArguments`, `numbers` stand for the
    items' titles.
    """

    def run(world: World, seed: int) -> Result:
        reader = world.reader("llm")
        if encoder == "text_sasrec":
            inner, facts = _text_sasrec(world, "llm", seed, all_users=False)
        else:
            inner, facts = _sasrec(world, seed, all_users=False)
        if permute:
            _permute(inner, seed)
        arguments = world.alignment_arguments(alignment_samples=samples, **changes)
        score = changes.get("score", job.TEXT_SCORE)
        start = time.perf_counter()
        split = world.numbered if numbers else world.split
        model, line = job.build_model(split, inner, arguments, score, reader.language_model)
        if arguments.soft_prompt_position == "after_text":  # else the texts read the soft prompts
            world.store_texts(model)
            arguments.text_states_gib = TEXT_STATES_BYTES / 2**30
            arguments.text_states_folder = str(world.cache / "text_states")
        with torch.random.fork_rng():
            training = RARecTrainingArguments(
                output_dir=str(world.cache / "alignment"), seed=seed, logging_steps=50, disable_tqdm=True
            )
            known = RankingDataset(split.interactions, world.gain_targets)
            _, drawn, _ = job.align(model, split, arguments, training, reader, known=known)
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        if model.score_head.uses_encoder or arguments.use_soft_prompts:
            trained += facts["parameters"]
        found = {"backbone": line, "alignment_seconds": round(time.perf_counter() - start), **drawn}
        return Result(model.scorer(), trained, facts | found, batch_size=64)

    return run


@torch.no_grad()
def _permute(encoder, seed: int) -> None:
    """Item vectors change places, so that a vector no longer says which item it is of."""
    order = torch.randperm(encoder.config.n_items, generator=torch.Generator().manual_seed(seed))
    encoder.item_embeddings.weight.copy_(encoder.item_embeddings.weight[order])


def ease(world: World, seed: int) -> Result | None:
    if world.n_items > MOST_ITEMS_OF_EASE:
        return None
    return Result(EASE().fit(world.sequences(), world.n_items))


ROWS = {
    "popularity": Row("Popularity", "id", _plain(lambda w: Popularity().fit(w.sequences(), w.n_items)), False),
    "itemknn": Row("ItemKNN", "id", _plain(_knn), False),
    "ease": Row("EASE", "id", ease, False),
    "sasrec": Row("SASRec", "id", _encoder(_sasrec)),
    "comirec": Row(
        "ComiRec-SA",
        "id",
        _encoder(lambda w, s: w.encoder("comirec", [COMIREC, COMIREC | {"encoder_weighted_negatives": True}], s)),
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
    "sasrec_tfidf": Row("SASRec + TF-IDF", "text", _blend(_encoder(_sasrec), _plain(_tfidf))),
    "itemknn_tfidf": Row("ItemKNN + TF-IDF", "text", _blend(_plain(_knn), _plain(_tfidf)), False),
    "sasrec_itemknn_tfidf": Row(
        "SASRec + ItemKNN + TF-IDF", "text", _blend(_encoder(_sasrec), _plain(_knn), _plain(_tfidf))
    ),
    "text_sasrec_minilm": Row("SASRec over ID and MiniLM vectors", "text", _encoder(_text_sasrec, "minilm")),
    "minilm_both": Row("SASRec over ID and MiniLM vectors + MiniLM likeness", "text", _with_texts("minilm")),
    "minilm_tfidf": Row("the same + TF-IDF", "text", _with_texts("minilm", _plain(_tfidf))),
    "llm_text": Row("LLM text, untrained two towers", "llm", _text("llm"), False),
    "layer0": Row("Ours without readout, LLM replaced by its token embeddings", "llm", _with_texts("layer0")),
    "random": Row("Ours without readout, LLM with random weights", "llm", _with_texts("random")),
    "ours_no_readout": Row("Ours without readout", "ours", _with_texts("llm")),
    "ours_shuffled": Row("Ours without readout, history shuffled", "ours", _shuffled(_with_texts("llm"))),
    "ours_tfidf": Row("Ours without readout + TF-IDF", "ours", _with_texts("llm", _plain(_tfidf))),
    "ours_all": Row(
        "Ours without readout + ItemKNN + TF-IDF", "ours", _with_texts("llm", _plain(_knn), _plain(_tfidf))
    ),
    "rarec": Row("RA-Rec: ours with soft prompts and readout", "ours", _rarec()),
    "rarec_no_prompts": Row("RA-Rec, soft prompts off", "ours", _rarec(use_soft_prompts=False, alignment_weight=0.0)),
    "rarec_sasrec": Row("RA-Rec around a SASRec without texts", "ours", _rarec("sasrec")),
    "rarec_prefix": Row("RA-Rec, no ID vectors (prefix tuning)", "ours", _rarec(use_id_vectors=False)),
    "rarec_shared": Row("RA-Rec, one projector for all layers", "ours", _rarec(layer_specific_projectors=False)),
    "rarec_no_context": Row("RA-Rec, no contextual instruction", "ours", _rarec(context_length=0)),
    "rarec_no_alignment": Row("RA-Rec, no alignment loss", "ours", _rarec(alignment_weight=0.0)),
    "rarec_random_samples": Row("RA-Rec, random samples", "ours", _rarec(user_diversity=False, item_diversity=False)),
    "rarec_permuted": Row("RA-Rec, ID vectors permuted", "ours", _rarec(permute=True)),
    "direct": Row(
        "ID direct usage: item numbers as text, both towers",
        "llm",
        _rarec("sasrec", numbers=True, score="trained_head", use_soft_prompts=False, alignment_weight=0.0),
    ),
    "translation": Row(
        "ID translation: titles alone, both towers",
        "llm",
        _rarec("sasrec", score="trained_head", use_soft_prompts=False, alignment_weight=0.0),
    ),
    "paper": Row(
        "RA-Rec as in the paper",
        "llm",
        _rarec("sasrec", soft_prompt_position="before_text", score="dot_product"),
    ),
}


__all__ = ["ROWS", "Result", "Row"]
