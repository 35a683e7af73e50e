"""Where a user's machine keeps what can be computed again."""

from __future__ import annotations

import os
from pathlib import Path


def user_cache(name: str) -> Path:
    """`$XDG_CACHE_HOME/rarec_hf/NAME`, by default in `~/.cache`; it need not exist."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rarec_hf" / name


__all__ = ["user_cache"]
