"""Makes the site of what is read elsewhere too: README is the first page, measured pages stand below their docs."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parent.parent
SHOWN = (".md", ".png", ".py", ".ipynb")


def on_files(files, config):
    for source, page in (("README.md", "index.md"), ("CHANGELOG.md", "changelog.md")):
        text = (
            (ROOT / source).read_text("utf-8").replace("](docs/", "](").replace("](CHANGELOG.md)", "](changelog.md)")
        )
        files.append(File.generated(config, page, content=text))
    for path in sorted([*(ROOT / "benchmarks").rglob("*"), *(ROOT / "examples").glob("*.ipynb")]):
        if path.suffix in SHOWN and "__pycache__" not in path.parts:
            files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown, page, config, files):
    if page.file.src_uri.startswith("benchmarks/"):
        return markdown
    return re.sub(r"\]\(\.\./(benchmarks|examples)/", r"](\1/", markdown)
