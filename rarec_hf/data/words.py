"""The words of a title, compared the way a person would: whatever their case, accents, punctuation and script."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from .stop_words import STOP_WORDS

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

__all__ = ["title_words", "word_incidence"]

ASCII_WORD = re.compile(r"[a-z0-9]+")
YEAR = re.compile(r"(1[89]|20)\d\d")
APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019\u201b\u02bc\u02b9\u0060\u00b4\uff07", "'"))
# Letters of their own that no decomposition takes apart, as a reader without that keyboard types them.
UNDECOMPOSED = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ð": "d", "æ": "ae", "œ": "oe", "ı": "i", "þ": "th"})
CONTRACTION = re.compile(r"(?<=[^\W\d_])'(?:s|t|d|m|ll|re|ve)\b")
ELISION = re.compile(r"\b(?:l|d|j|m|n|s|t|c|qu|jusqu|lorsqu|dell|nell|dall|all|sull|un)'(?=[^\W\d_]{2})")


@lru_cache(maxsize=1)
def _patterns() -> dict[str, Any]:
    import regex  # knows scripts and grapheme clusters; a dependency of transformers

    unspaced = r"\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}ー"
    return {
        "accent": regex.compile(r"(?<=[\p{Latin}\p{Greek}\p{Cyrillic}\p{Arabic}\p{Hebrew}])\p{Mn}+"),
        "invisible": regex.compile(r"[\p{Cf}ـ]+"),  # joiners, soft hyphens, the stretched line of Arabic
        "word": regex.compile(
            rf"(?P<unspaced>[{unspaced}][{unspaced}\p{{M}}]*)|(?:(?![{unspaced}])[\p{{L}}\p{{M}}\p{{N}}])+"
        ),
        "character": regex.compile(r"\X"),
    }


def title_words(title: str) -> set[str]:
    """
    The distinct words of a title, without function words (of the large European languages), years and "volume".

    - Case, width and ligatures are folded (NFKC, casefold), and so are accents of Latin, Greek and Cyrillic letters
      and the vowel points of Arabic and Hebrew: "Café", "CAFÉ" and "cafe" are one word. Marks of other scripts belong
      to their letters and stay ("हिन्दी").
    - Words end at anything that is no letter, mark or digit. "Schindler's" is "schindler", "l'amour" is "amour".
    - Chinese, Japanese, Thai, Lao, Khmer and Burmese put no spaces between words: pairs of neighbouring characters
      stand for words there, as is usual in search; a character that stands alone is a word.

    Example:
        ```python
        >>> sorted(title_words("The Café of Dr. Müller's Sister, Vol. 2 (1984)"))
        ['2', 'cafe', 'dr', 'muller', 'sister']
        ```
    """
    text = title.translate(APOSTROPHES)
    simple = text.isascii()
    text = text.lower() if simple else _fold(text)
    if "'" in text:
        text = ELISION.sub("", CONTRACTION.sub("", text))
    if simple:
        return _without_stop_words(ASCII_WORD.findall(text))
    patterns = _patterns()
    words = set()
    for match in patterns["word"].finditer(text):
        if match["unspaced"] is None:
            words.add(match[0])
            continue
        characters = patterns["character"].findall(match[0])
        words.update(map("".join, zip(characters, characters[1:], strict=False)) if characters[1:] else characters)
    return _without_stop_words(words)


def _fold(text: str) -> str:
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).translate(UNDECOMPOSED)
    text = unicodedata.normalize("NFD", _patterns()["invisible"].sub("", text))
    return unicodedata.normalize("NFC", _patterns()["accent"].sub("", text)).translate(APOSTROPHES)


def _without_stop_words(words: Iterable[str]) -> set[str]:
    return {word for word in words if word not in STOP_WORDS and not YEAR.fullmatch(word)}


def word_incidence(titles: Sequence[str]) -> csr_matrix:
    """Which title holds which word: `(n_titles, n_words)`, 1 where it does; `n_words` is at least 1."""
    from scipy import sparse
    from sklearn.feature_extraction.text import CountVectorizer

    try:
        return CountVectorizer(analyzer=title_words, binary=True, dtype="int32").fit_transform(titles)
    except ValueError as error:  # no title holds a word
        if "empty vocabulary" not in str(error):
            raise
        return sparse.csr_matrix((len(titles), 1), dtype="int32")
