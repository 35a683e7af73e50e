"""The text of the package's page on PyPI: README with links that hold there. All else is declared in `setup.cfg`.

PyPI shows the README alone, so a link to another file of the repository leads nowhere from there. With a `Source`
among `project_urls` in `setup.cfg` such links become absolute; without, only their text is kept.
"""

from __future__ import annotations

import re
from configparser import ConfigParser
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
_RELATIVE = re.compile(r"(!?)\[([^\]]*)\]\((?!\w+:|#)([^)\s]+)\)")


def source_address() -> str | None:
    """The repository's address, the `Source` of `project_urls` in `setup.cfg`, or None where there is none."""
    declared = ConfigParser(interpolation=None)
    declared.read(ROOT / "setup.cfg", "utf-8")
    found = re.search(r"^Source *= *(\S+?)/?$", declared.get("metadata", "project_urls", fallback=""), re.MULTILINE)
    return found[1] if found else None


def long_description(readme: str, address: str | None) -> str:
    """`readme` with its relative links and images led to `address`, or reduced to their text where that is None."""

    def absolute(link: re.Match[str]) -> str:
        image, text, target = link.groups()
        if address is None:
            return text
        return f"{image}[{text}]({address}/{'raw' if image else 'blob'}/main/{target})"

    return _RELATIVE.sub(absolute, readme)


if __name__ == "__main__":
    readme = (ROOT / "README.md").read_text("utf-8")
    setup(long_description=long_description(readme, source_address()))
