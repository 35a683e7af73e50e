"""What each part is worth on the data at hand, in words."""

from __future__ import annotations

from dataclasses import dataclass

from .evaluator import Difference, paired_difference
from .metrics import metric_label
from .ranks import Ranks


@dataclass(frozen=True)
class Comparison:
    """
    One part of a recommender, with and without it.

    Args:
        what (`str`): such as `"Text adds"`; a sentence begins with it.
        against (`str`): what it is compared with, such as `"over ID vectors alone"`.
        difference ([`Difference`]): with less without.
        if_gain, if_none, if_loss (`str`): the advice that follows.
    """

    what: str
    against: str
    difference: Difference
    if_gain: str
    if_none: str
    if_loss: str

    def __str__(self) -> str:
        mean, low, high = (getattr(self.difference, name) for name in ("mean", "low", "high"))
        base = "" if self.difference.relative != self.difference.relative else f" ({self.difference.relative:+.1%})"
        told = f"{self.what} {mean:+.4f} [{low:+.4f}, {high:+.4f}]{base} {self.against}"
        if low > 0:
            return f"{told}: {self.if_gain}"
        return f"{told}: {self.if_loss if high < 0 else f'no difference that these users could show. {self.if_none}'}"


def verdict(
    ours: Ranks,
    encoder: Ranks,
    bag_of_words: Ranks | None = None,
    without_readout: Ranks | None = None,
    trained_with_words: Ranks | None = None,
    metric: str = "ndcg@10",
) -> str:
    """
    A few lines of markdown: what text adds to the ID encoder, what the LLM adds to a bag of words, what soft prompts
    and readout add to the LLM's text vectors, each with its paired 95 % interval, and what to do about it.

    Args:
        ours, encoder (`Ranks`): of the full model and of the ID encoder alone.
        bag_of_words (`Ranks`, *optional*): of the ID encoder with TF-IDF of titles beside it.
        without_readout (`Ranks`, *optional*): of the full model less its readout states, which the soft prompts steer.
        trained_with_words (`Ranks`, *optional*): of an encoder like the full model's, trained over word counts where
            that reads the LLM's states. With it, what training with texts gains is not put down to the LLM.
    """
    beside = bag_of_words if trained_with_words is None else None
    compared = [
        (
            ("Text (a bag of words) adds", "to the ID encoder", bag_of_words, encoder),
            "your titles say what the interactions do not.",
            "Your titles may say little; check that they are not mere codes.",
            "words mislead here; look at the titles.",
        ),
        (
            ("RA-Rec adds", "to the ID encoder", ours, encoder),
            "it is worth its cost if nothing cheaper does the same.",
            "Serve the ID encoder, or give the alignment more samples.",
            "serve the ID encoder.",
        ),
        (
            ("The LLM adds", "to the ID encoder with a bag of words", ours, beside),
            "it finds more than the titles' words beside the encoder.",
            "A bag of words beside the ID encoder does the same for less.",
            "a bag of words beside the ID encoder is better and costs nothing.",
        ),
        (
            ("Training with texts adds", "to a bag of words beside the ID encoder", trained_with_words, bag_of_words),
            "words are worth more inside the encoder than beside it.",
            "A bag of words beside the ID encoder does the same for less.",
            "a bag of words beside the ID encoder is better and costs nothing.",
        ),
        (
            ("The LLM adds", "to an encoder trained over word counts", ours, trained_with_words),
            "it reads more in the titles than their words.",
            "The encoder over word counts does the same without an LLM.",
            "the encoder over word counts is better and needs no LLM.",
        ),
        (
            ("Soft prompts and readout add", "to the LLM's text vectors", ours, without_readout),
            "keep them.",
            "The text vectors alone answer without reading a user's text: --use_soft_prompts false is cheaper.",
            "leave them out: --use_soft_prompts false.",
        ),
    ]
    found = [
        Comparison(what, against, paired_difference(one, other, metric), *advice)
        for (what, against, one, other), *advice in compared
        if one is not None and other is not None
    ]
    lines = [f"What each part is worth on these data, in {metric_label(metric)} of {ours.n_users:,} users:", ""]
    return "\n".join([*lines, *(f"- {comparison}" for comparison in found)]) + "\n"


__all__ = ["Comparison", "verdict"]
