"""The fenced blocks of a page, and how they run. `python tests/doc_blocks.py docs/quick_tour.md` runs a page for real
and shows what each block prints."""

from __future__ import annotations

import doctest
import re
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", flags=re.S | re.M)
MARKER = re.compile(r"<!-- not run(?::[ \t]*(.*?))?[ \t]*-->\s*\Z")


@dataclass
class Block:
    """`line` is that of the first line of code in the page, `not_run` the marker's reason, None without a marker."""

    page: Path
    line: int
    language: str
    code: str
    not_run: str | None = None

    @property
    def source(self) -> str:
        """The Python in it, without prompts and what is printed."""
        examples = doctest.DocTestParser().get_examples(self.code)
        return "".join(example.source for example in examples) or self.code

    def run(self, names: dict) -> None:
        """Runs the block; one with `>>>` must print what it says, `...` standing for anything."""
        if self.source != self.code:
            self._run_examples(names)
            return
        exec(compile("\n" * (self.line - 1) + self.code, str(self.page), "exec"), names)  # a traceback names the line

    def _run_examples(self, names: dict) -> None:
        flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        # DocTest copies the names it is given: what the examples make must reach the next block
        test = doctest.DocTestParser().get_doctest(self.code, names, self.page.name, str(self.page), self.line - 1)
        test.globs = names
        told: list[str] = []
        if doctest.DocTestRunner(optionflags=flags).run(test, out=told.append, clear_globs=False).failed:
            raise AssertionError("".join(told))


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text("utf-8")
    found = []
    for match in FENCE.finditer(text):
        marker = MARKER.search(text, 0, match.start())
        reason = None if marker is None else (marker[1] or "")
        line = text.count("\n", 0, match.start(2)) + 1
        found.append(Block(page, line, match[1], match[2], reason))
    return found


def commands_of(page: Path) -> list[str]:
    """Lines of shell code, of ```bash blocks and of indented ones, with continued lines joined and comments cut."""
    text = page.read_text("utf-8")
    shell = [block.code for block in blocks_of(page) if block.language == "bash"]
    shell += re.findall(r"(?:^    \S.*\n)+(?:^ {4,}\S.*\n)*", FENCE.sub("", text), flags=re.M)
    lines = re.sub(r"\s*\\\n\s*", " ", "\n".join(shell)).splitlines()
    return [line for line in (re.sub(r"(^|\s)#.*", "", line).strip() for line in lines) if line]


def main() -> None:
    names: dict = {"__name__": "__main__"}
    for block in blocks_of(Path(sys.argv[1])):
        if block.language == "python" and block.not_run is None:
            print(f"--- line {block.line}", flush=True)
            block.run(names)


if __name__ == "__main__":
    main()
