"""`pipeline("sequential-recommendation", model=...)`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sized
from typing import Any

from transformers.pipelines.base import Pipeline
from transformers.pipelines.pt_utils import PipelineDataset

from ..modeling_rarec import RARecForSequentialRecommendation
from ..processing_rarec import RARecProcessor
from ..recommendation import Recommendation
from ..registration import TASK
from .history_matching import READINGS, HistoryMatcher


class SequentialRecommendationPipeline(Pipeline):
    """
    Recommends the next items; the answers are those of `model.recommend(...)`.

    Args:
        model ([`RARecForSequentialRecommendation`]): with an indexed catalogue. `pipeline(...)` also takes a folder or
            a Hub repository, which it loads with its processor, `dtype` and `device_map` going to the backbone.
        processor ([`RARecProcessor`], *optional*): of a model that has none; `model.processor` is set to it.
        top_k (`int`, *optional*, defaults to 10): how many items.
        exclude_seen (`bool`, *optional*, defaults to `True`): leave out the items of the history.
        history_as (`str`, *optional*, defaults to `"auto"`): what histories hold: `"ids"`, `"titles"`, or either.
        kwargs: `device`, `batch_size`, `num_workers`, as of every pipeline.

    Raises:
        TypeError: another model, or a tokenizer beside the processor's.
        ValueError: the model has no processor, or no item representations that fit its weights.

    Example:

    ```python
    from transformers import pipeline
    import rarec_hf

    recommender = pipeline("sequential-recommendation", model="outputs/rarec")
    recommender(["Toy Story (1995)", "Babe (1995)"], top_k=3)
    ```
    """

    # The model comes with its processor, which holds the tokenizer
    _load_processor = _load_tokenizer = _load_feature_extractor = False
    _load_image_processor = _load_video_processor = False

    def __init__(
        self, model: RARecForSequentialRecommendation, processor: RARecProcessor | None = None, **kwargs: Any
    ) -> None:
        kwargs.pop("local_files_only", None)  # `pipeline(...)` has used it and hands it on all the same
        if not isinstance(model, RARecForSequentialRecommendation):
            raise TypeError(
                f"The task {TASK!r} needs a RARecForSequentialRecommendation, got {type(model).__name__}. Name its "
                "folder or repository, or pass a loaded one."
            )
        parts = ("tokenizer", "feature_extractor", "image_processor", "video_processor")
        if given := [name for name in parts if kwargs.pop(name, None) is not None]:
            raise TypeError(f"The task {TASK!r} takes no {given}: all it needs is in the model's processor.")
        if processor is not None:
            if not isinstance(processor, RARecProcessor):
                raise TypeError(f"Expected a RARecProcessor as `processor`, got {type(processor).__name__}.")
            model.processor = processor
        model.check_catalogue()
        if getattr(model.language_model, "hf_device_map", None) is not None:
            if kwargs.get("device") is not None:
                raise ValueError(
                    "The backbone was placed by `device_map`, so that the model cannot be moved. Leave out `device`."
                )
            kwargs["device"] = model.device
        # Batches are collated by a tokenizer, which must have a padding token then, or by a feature extractor; ours
        # are lists, which either leaves as they are
        super().__init__(model, processor=model.processor, feature_extractor=model.processor, **kwargs)
        self._matcher: HistoryMatcher | None = None

    def _sanitize_parameters(
        self, top_k: int | None = None, exclude_seen: bool | None = None, history_as: str | None = None
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        if top_k is not None and (isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1):
            raise ValueError(f"`top_k` must be a whole number of at least 1, got {top_k!r}.")
        if history_as is not None and history_as not in READINGS:
            raise ValueError(f"`history_as` must be one of {list(READINGS)}, got {history_as!r}.")
        forward = {"top_k": top_k, "exclude_seen": exclude_seen}
        preprocess = {} if history_as is None else {"history_as": history_as}
        return preprocess, {name: value for name, value in forward.items() if value is not None}, {}

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """
        Args:
            inputs: a history, oldest first, as a list of item ids or titles, which may be empty; or a mapping with
                `"history"` and, optionally, `"user_id"` (other keys are left alone). Or many of either: a list, or a
                `datasets.Dataset`, `KeyDataset`, generator or other iterable, which is read as answers are asked for.
            kwargs: `top_k`, `exclude_seen`, `history_as`, `batch_size`, `num_workers` of this call.

        Returns:
            For one history the items, best first, each a `dict` with `"item_id"`, `"title"` and `"score"`. For a list
            of histories a list of such lists, for other inputs an iterator over them.

        Raises:
            ValueError: ids or titles that mean no item or more than one, or user ids for an ID encoder without user
                vectors.
        """
        if isinstance(inputs, (str, bytes)):
            raise ValueError(f"Expected a list of item ids or titles, got the text {inputs!r}. Put it into a list.")
        if hasattr(inputs, "tolist"):
            inputs = inputs.tolist()
        if isinstance(inputs, Mapping):
            return super().__call__(dict(inputs), **kwargs)
        if isinstance(inputs, (list, tuple)):
            if not inputs or isinstance(inputs[0], (str, bytes)) or not isinstance(inputs[0], (Iterable, Mapping)):
                return super().__call__({"history": inputs}, **kwargs)
            # As mappings, so that the library does not take a list for a chat
            return super().__call__(
                [row if isinstance(row, Mapping) else {"history": row} for row in inputs], **kwargs
            )
        if isinstance(inputs, Sized) and hasattr(inputs, "__getitem__"):
            return super().__call__(PipelineDataset(inputs, _unchanged, {}), **kwargs)
        if isinstance(inputs, Iterable):
            return super().__call__((row for row in inputs), **kwargs)
        raise ValueError(f"Expected a history, or many, got {type(inputs).__name__}.")

    def preprocess(self, inputs: Any, history_as: str = "auto") -> dict[str, Any]:
        history, user_id = inputs, None
        if isinstance(inputs, Mapping):
            if "history" not in inputs:
                raise ValueError(f"Expected a 'history' and, optionally, a 'user_id', got the keys {sorted(inputs)}.")
            history, user_id = inputs["history"], inputs.get("user_id")
        history = history.tolist() if hasattr(history, "tolist") else history
        if not isinstance(history, (list, tuple)):
            raise ValueError(f"Expected a history as a list of item ids or titles, got {history!r:.100}.")
        matcher, processor = self._matcher, self.model.processor  # read once: threads may share the pipeline
        if matcher is None or matcher.processor is not processor:  # items may be added
            self._matcher = matcher = HistoryMatcher(processor)
        # A tuple, as collating makes lists of what it is given
        return {"history": tuple(matcher.item_ids(history, history_as)), "user_id": user_id}

    def _forward(
        self, model_inputs: dict[str, Any], top_k: int = 10, exclude_seen: bool = True
    ) -> dict[str, Recommendation | list[Recommendation]]:
        histories, user_ids = model_inputs["history"], model_inputs["user_id"]
        if many := isinstance(histories, list):
            histories = [list(history) for history in histories]
            user_ids = None if all(user is None for user in user_ids) else user_ids
        answers = self.model.recommend(
            histories if many else list(histories), top_k, exclude_seen, max(1, len(histories)), user_ids
        )
        return {"recommendation": answers}

    def postprocess(self, model_outputs: dict[str, Recommendation]) -> list[dict[str, Any]]:
        return [
            {"item_id": item_id, "title": title, "score": score}
            for item_id, title, score in model_outputs["recommendation"]
        ]

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:
        """`model.save_pretrained`, which saves all there is; no code goes along unless `include_code=True`."""
        self.model.save_pretrained(save_directory, **kwargs)


def _unchanged(row: Any) -> Any:
    return row


__all__ = ["TASK", "SequentialRecommendationPipeline"]
