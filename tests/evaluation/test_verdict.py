"""A verdict says what the intervals say, and no more."""

import numpy as np
import pytest

from rarec_hf.evaluation import Ranks
from rarec_hf.evaluation.verdict import verdict


def ranks(share_of_hits, n=400, seed=0):
    rng = np.random.default_rng(seed)
    greater = np.where(rng.random(n) < share_of_hits, 0, 90)
    return Ranks(greater, np.zeros(n, int), np.full(n, 100))


def test_gains_losses_and_nothing_get_their_advice():
    ours, encoder = ranks(0.5), ranks(0.2)
    text = verdict(ours, encoder, bag_of_words=ranks(0.5, seed=1), without_readout=ranks(0.8))
    lines = text.splitlines()
    assert "NDCG@10 of 400 users" in lines[0]
    words, whole, llm, readout = lines[2:]
    assert "Text (a bag of words) adds +0." in words and "your titles say" in words
    assert "RA-Rec adds +0." in whole and "worth its cost" in whole
    assert "no difference that these users could show. A bag of words" in llm
    assert "Soft prompts and readout add -0." in readout and readout.endswith(
        "leave them out: --use_soft_prompts false."
    )


def test_what_training_with_texts_gains_is_not_put_down_to_the_llm():
    text = verdict(ranks(0.6), ranks(0.2), bag_of_words=ranks(0.4), trained_with_words=ranks(0.6, seed=1))
    words, whole, trained, llm = text.splitlines()[2:]
    assert "Text (a bag of words) adds +" in words and "RA-Rec adds +" in whole
    assert "Training with texts adds +" in trained and "to a bag of words beside the ID encoder: words are" in trained
    assert "to an encoder trained over word counts: no difference" in llm and llm.endswith("same without an LLM.")
    alone = verdict(ranks(0.6), ranks(0.2), trained_with_words=ranks(0.4))
    assert "Training with" not in alone and alone.rstrip().endswith("it reads more in the titles than their words.")
    better = verdict(ranks(0.4), ranks(0.2), trained_with_words=ranks(0.6))
    assert better.rstrip().endswith("the encoder over word counts is better and needs no LLM.")


def test_it_says_only_what_was_compared():
    text = verdict(ranks(0.2), ranks(0.5))
    assert text.count("\n- ") == 1 and text.rstrip().endswith("serve the ID encoder.")
    nothing = verdict(ranks(0.0), ranks(0.0))
    assert "+0.0000 [+0.0000, +0.0000] to the ID encoder: no difference" in nothing and "nan" not in nothing


@pytest.mark.parametrize("metric", ["hit_rate@10", "mrr"])
def test_in_any_metric(metric):
    assert "adds +0." in verdict(ranks(0.5), ranks(0.2), metric=metric)
