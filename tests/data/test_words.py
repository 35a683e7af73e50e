"""Words compared the way a person would: case, accents, punctuation, function words, scripts."""

from __future__ import annotations

import pytest

from rarec_hf.data.words import title_words, word_incidence


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("The Lord of the Rings: Part_2 (2001)", {"lord", "rings", "part", "2"}),
        ("rock'n'roll 1984", {"rock", "roll"}),
        ("", set()),
        ("!? -- &", set()),
        ("Vol. 7, Volume 12", {"7", "12"}),
        ("Schindler\u2019s List", {"schindler", "list"}),
        ("Boys' Don't They'll", {"boys", "don"}),
        ("L'Amour d\u2019Artagnan \u00e0 l'\u00e9t\u00e9", {"amour", "artagnan", "ete"}),
        ("O'Brien", {"brien"}),
        ("Caf\u00e9 CAFE Cafe\u0301 cafe", {"cafe"}),
        ("Stra\u00dfe STRASSE", {"strasse"}),
        ("\uff26\uff35\uff2c\uff2c \ufb01ne", {"full", "fine"}),
        ("\u0130stanbul \u0141\u00f3d\u017a \u00d8re", {"istanbul", "lodz", "ore"}),
        ("co\u00adoperate", {"cooperate"}),
        ("Der Prozess und das Urteil", {"prozess", "urteil"}),
        ("Die Hard", {"die", "hard"}),
        ("Los Pa\u00edses de la Tierra", {"paises", "tierra"}),
        ("Война и мир", {"\u0432\u043e\u0438\u043d\u0430", "мир"}),
        ("Ёлки ЕЛКИ", {"елки"}),
        ("ΟΔΥΣΣΕΥΣ Οδυσσεύς της γης", {"οδυσσευσ", "γησ"}),
        ("مُحَمَّد محمد محـمد", {"محمد"}),
        ("हिन्दी की किताब", {"हिन्दी", "की", "किताब"}),
        ("한국어 책", {"한국어", "책"}),
        ("東京物語", {"東京", "京物", "物語"}),
        ("猫", {"猫"}),
        ("猫 と 犬", {"猫", "と", "犬"}),
        ("スター・ウォーズ", {"スタ", "ター", "ウォ", "ォー", "ーズ"}),
        ("iPhone東京", {"iphone", "東京"}),
        ("กำลัง", {"ก\u0e4dา", "าลั", "ลัง"}),
    ],
)
def test_words(title, expected):
    assert title_words(title) == expected


def test_a_mark_of_another_script_is_no_accent():
    assert title_words("कि") != title_words("क")
    assert title_words("कि").isdisjoint(title_words("की"))


def test_incidence_counts_a_word_once_a_title():
    matrix = word_incidence(["Red red dress", "", "The dress"])
    assert matrix.toarray().sum(axis=1).tolist() == [2, 0, 1]
    assert (matrix @ matrix.T).toarray()[0, 2] == 1
    assert word_incidence(["", "the"]).shape == (2, 1)
