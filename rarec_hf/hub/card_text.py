"""Text that came with the data, made safe to stand in a card."""

from __future__ import annotations

import re
import shlex
import unicodedata
from pathlib import PureWindowsPath
from typing import Any

_JOINERS = "\u200c\u200d"  # of scripts and emoji
# Any of them may begin markup or HTML, or end a table's cell
_MARKUP = re.compile(r"[\\`*_\[\]#~|<>&$^]")
# Renderers make links of these wherever they stand in a line, entities or not; a comment in between stops them
_LINKS = re.compile(r"(?i)(?<=http)(?=s?:)|(?<=www)(?=\.)|(?<=ftp)(?=:)|(?<=mailto)(?=:)|(?<=xmpp)(?=:)|(?=@)")


def as_text(value: Any) -> str:
    """
    A value as Markdown that shows exactly it, whatever it holds: no emphasis, image, link, HTML or table cell comes of
    it. On one line; control characters, those that reverse the direction of writing included, are left out.
    """
    parts = (_MARKUP.sub(lambda found: f"&#{ord(found[0])};", part) for part in _LINKS.split(_one_line(value)))
    return "<!-- -->".join(parts)


def without_folders(value: Any) -> str:
    """A path, a `path:` address or `--option=path` with the folders of this machine cut off; else as it is."""
    text = str(value)
    for before in ("path:", "="):
        name, found, path = text.partition(before)
        if found and _is_absolute(path):
            return f"{name}{before}{PureWindowsPath(path).name}"
    return PureWindowsPath(text).name if _is_absolute(text) else text


def shared_command(command: str) -> str:
    """A command line, each absolute path in it cut to its last part."""
    return shlex.join(without_folders(word) for word in shlex.split(command))


def _one_line(value: Any) -> str:
    text = " ".join(str(value).split())
    return "".join(c for c in text if c in _JOINERS or unicodedata.category(c) not in ("Cc", "Cf", "Cs"))


def _is_absolute(path: str) -> bool:
    return path.startswith("/") or PureWindowsPath(path).is_absolute()


def code(text: Any) -> str:
    """A span of code, on one line, fenced by more backticks than it holds; not for tables, whose cells a | ends."""
    text = _one_line(text)
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if longest else ""
    return f"{fence}{pad}{text}{pad}{fence}" if text else ""


__all__ = ["as_text", "code", "shared_command", "without_folders"]
