"""Documents hold what they point to: files, headings, names of the package, Python that can be read."""

from __future__ import annotations

import ast
import importlib
import json
import re
import runpy
from pathlib import Path

import pytest
from doc_blocks import ROOT, blocks_of

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
NAMED = [path.relative_to(ROOT).as_posix() for path in PAGES]


def anchors(path: Path) -> set[str]:
    """Of a page's headings, as GitHub and the site make them."""
    text = re.sub(r"```.*?```", "", path.read_text("utf-8"), flags=re.S)
    found = re.findall(r"^#+ (.+)$", text, flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in found}


def code_of(path: Path) -> list[str]:
    return [block.source for block in blocks_of(path) if block.language == "python"]


def names_exist(source: str) -> None:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "rarec_hf":
            module = importlib.import_module(node.module)
            for alias in node.names:
                if not hasattr(module, alias.name):
                    importlib.import_module(f"{node.module}.{alias.name}")


@pytest.mark.parametrize("page", PAGES, ids=NAMED)
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.S)
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = page if not name else page.parent / name
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("page", [page for page in PAGES if code_of(page)], ids=lambda page: page.name)
def test_code_can_be_read_and_takes_names_that_exist(page):
    for source in code_of(page):
        names_exist(source)


def test_the_notebook_was_run_from_top_to_bottom():
    notebook = json.loads((ROOT / "examples" / "quick_tour.ipynb").read_text("utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    kinds = {output["output_type"] for cell in cells for output in cell["outputs"]}
    assert "error" not in kinds and {"execute_result", "stream"} <= kinds
    pictures = [o for cell in cells for o in cell["outputs"] if "image/png" in o.get("data", {})]
    assert len(pictures) == 1 and cells[-1]["outputs"]  # to the last cell
    for cell in cells:
        names_exist("".join(cell["source"]).removeprefix("%%capture\n"))


def test_the_checks_see_what_is_wrong(tmp_path):
    (tmp_path / "page.md").write_text("# A heading\n[a](b.md) [c](#a-heading) [d](#none)\n")
    with pytest.raises(AssertionError) as failed:
        test_links_lead_somewhere(tmp_path / "page.md")
    assert "b.md" in str(failed.value) and "#none" in str(failed.value) and "#a-heading'" not in str(failed.value)
    (tmp_path / "page.md").write_text("```python\nfrom rarec_hf import NoSuchName\n```\n")
    with pytest.raises(ModuleNotFoundError):
        test_code_can_be_read_and_takes_names_that_exist(tmp_path / "page.md")


def test_the_figures_are_drawn(tmp_path):
    drawing = runpy.run_path(str(ROOT / "docs" / "figures.py"))
    for draw in (drawing["overview"], drawing["attention"]):
        assert draw(tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    # `after_text`: the text reads no soft prompt; `before_text`: each of its tokens does
    layouts, visibility = drawing["layouts"](), drawing["visibility"]
    for name, reads in (("before_text (the paper's)", True), ("after_text (default)", False)):
        columns = layouts[name]
        seen = visibility(columns, columns)[0]
        text, prompts = columns.kind[0] == drawing["TEXT"], columns.kind[0] == drawing["SOFT_PROMPT"]
        assert bool(seen[text][:, prompts].all()) == reads and bool(seen[text][:, prompts].any()) == reads
