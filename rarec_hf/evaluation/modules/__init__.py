"""The metrics as `evaluate` modules, one folder each: `evaluate.load` takes its path, [`load_metric`] its name."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import evaluate

MODULES = {"hit_rate": "HitRate", "recall": "Recall", "ndcg": "Ndcg", "mrr": "Mrr"}


def load_metric(name: str, config_name: str | None = None, **kwargs: Any) -> evaluate.Metric:
    """
    One of the package's metrics as an `evaluate.Metric`, without a look at the Hub.

    Args:
        name (`str`): `"hit_rate"`, `"recall"`, `"ndcg"` or `"mrr"`.
        config_name (`str`, *optional*): `"lists"` (the default): predictions are ranked item ids; `"scores"`: they are
            scores of the whole catalogue.
        kwargs: of `evaluate.Metric`, such as `keep_in_memory`, `num_process` and `process_id`.

    Raises:
        ValueError: unknown metric or configuration.

    Example:
        ```python
        >>> metric = load_metric("hit_rate")
        >>> metric.compute(predictions=[["a", "b"], ["c", "d"]], references=["b", ["e", "f"]], k=2)
        {'hit_rate@2': 0.5}
        ```
    """
    if name not in MODULES:
        raise ValueError(f"Unknown metric {name!r}; expected one of {', '.join(MODULES)}.")
    module = importlib.import_module(f"{__name__}.{name}.{name}")
    return getattr(module, MODULES[name])(config_name, **kwargs)


__all__ = ["MODULES", "load_metric"]
