"""`recommend` by several processes that each hold a part of the item representations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .catalogue_rows import together
from .histories import as_histories, whole_number, yes_or_no
from .processes import PartialState
from .recommendation import Recommendation, RecommendationMixin
from .row_scoring import RowScorer
from .top_k import merged


class JointRecommendationMixin(RecommendationMixin):
    """`recommend_together` of `RARecForSequentialRecommendation`."""

    def recommend_together(
        self,
        histories: Sequence[Sequence[str]],
        k: int = 10,
        exclude_seen: bool = True,
        batch_size: int = 16,
        user_ids: Sequence[str | None] | None = None,
        process: PartialState | None = None,
    ) -> list[Recommendation]:
        """
        `recommend`, each process for histories of its own, also where the item representations are spread over them.

        Args:
            histories (`list[list[str]]`): as in `recommend`; none at all is allowed here.
            process (`PartialState`): every process must call this, equally often; the answers do not depend on how
                many they are.

        Returns:
            `list[Recommendation]`: for the histories of this process.

        Raises:
            ValueError: as `recommend` raises it.
        """
        if not self.has_rows_elsewhere:
            return self.recommend(histories, k, exclude_seen, batch_size, user_ids) if len(histories) else []
        if process is None:
            raise ValueError(
                "The item representations are spread over processes: expected `process=PartialState()` in every one "
                "of them, got None."
            )
        k, batch_size = whole_number(k, "k"), whole_number(batch_size, "batch_size")
        exclude_seen, processor = yes_or_no(exclude_seen, "exclude_seen"), self._need_processor()
        given = as_histories(histories)[0] if len(histories) else []
        mine = [processor.item_indices(history) for history in given]
        users = self._known_users(user_ids, len(mine)) if mine else None
        scorer = RowScorer(self, process)
        answers: list[Any] = [None] * len(mine)
        asked = ((query, [mine[row] for row in query.places]) for query in scorer.queries(mine, users, batch_size))
        for of_all in scorer.rounds(asked):
            found = [one and scorer.best(one[0], k, one[1] if exclude_seen else None) for one in of_all]
            parts, own = together(found, process), process.process_index
            if of_all[own] is None:
                continue
            values, items = merged([part[own] for part in parts], k)
            for row, some_values, some_items in zip(
                of_all[own][0].places, values.tolist(), items.tolist(), strict=True
            ):
                answers[row] = self._told(some_values, some_items, mine[row] if exclude_seen else ())
        return answers


__all__ = ["JointRecommendationMixin"]
