"""Function words that two titles may share without having anything in common."""

from __future__ import annotations

__all__ = ["STOP_WORDS"]

# Case and accents are folded as in `words.py`. Words that carry meaning in English titles ("die", "war", "son", "sin",
# "fur", "pour", "man", "will") are left out of the other languages' lists: wrongly dropped samples cost more than a
# few kept ones.
STOP_WORDS = frozenset(
    (
        # titles of volumes
        "vol vols volume volumes "
        # English
        "a an and are as at be been but by do does for from had has have he her him his how i if in into is it its me "
        "my no nor not of off on or our out she so than that the their them then there these they this those to too "
        "upon us was we were what when where which who whom whose why with you your "
        # German
        "als am auch auf aus bei beim das dass dem den der des ein eine einem einen einer eines fuer ich ihr im ins "
        "ist mit nach nicht ohne sich sind uber ueber um und vom von vor zu zum zur zwischen "
        # French
        "au aux avec ce ces cet cette chez comme dans de des du elle en entre est et il ils je la le les leur leurs "
        "lui mais mes moi nos notre nous ou par pas plus qu que qui sa sans se ses sont sous sur ta te tes toi tu un "
        "une vers vos votre vous "
        # Spanish, Portuguese, Italian
        "al ao aos com con da das degli dei del della delle dello di do dos e ed el ella em era essa esta este gli ha "
        "hay ho las lo los ma mas mi muy na nas nel nella nos num numa o os para pela pelo per pero por sem si su sua "
        "sue suo sul sulla sus tra uma una unos unas y ya "
        # Dutch, Swedish, Danish, Norwegian
        "aan aus av bij de dat det deze dit een eller en er ett fran het hun ik inte je jeg jag maar met naar niet og "
        "ook op over paa som te til till tot uit van voor werd zich zijn "
        # Polish, Czech
        "dla i jak jest ktory nie od oraz po przez sie w we z za ze "
        # Russian, Ukrainian
        "а без бы был была в во для до его ее за и из или их к как ко мы на над не но о об он она они от по под при с "
        "со та так то ты у это я"
        # Greek
        " η ο το τα οι τη την τον του της των και στο στη στην στον για με"
    )
    .casefold()
    .split()
)
