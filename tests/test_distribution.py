"""What is uploaded: the wheel and the source distribution hold the package, all of it and nothing else."""

from __future__ import annotations

import email
import re
import runpy
import shutil
import subprocess
import sys
import tarfile
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

ROOT = Path(__file__).parent.parent
SOURCES = ("rarec_hf", "tests", "benchmarks", "examples")
FILES = (
    "CHANGELOG.md",
    "CITATION.cff",
    "LICENSE",
    "MANIFEST.in",
    "README.md",
    "pyproject.toml",
    "setup.cfg",
    "setup.py",
)
_BUILD = "import sys; from setuptools import build_meta; print(build_meta.{}(sys.argv[1]))"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The wheel of the tree, the source distribution, and the wheel of what is in that."""
    folder = tmp_path_factory.mktemp("distribution")
    tree = folder / "tree"
    for name in SOURCES:
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, tree / name)

    def build(source: Path, what: str) -> Path:
        out = folder / f"{what}_of_{source.name}"
        command = [sys.executable, "-c", _BUILD.format(what), str(out)]
        out.mkdir()
        done = subprocess.run(command, cwd=source, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return out / done.stdout.splitlines()[-1]

    sdist = build(tree, "build_sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    return build(tree, "build_wheel"), unpacked, build(unpacked, "build_wheel")


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def files_of(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder.parent).as_posix(): path.read_bytes() for path in files}


def test_the_wheel_holds_the_package_and_nothing_else(built):
    wheel = contents(built[0])
    package = files_of(ROOT / "rarec_hf")
    assert {"rarec_hf/py.typed", "rarec_hf/hub/page.css", "rarec_hf/hub/model_card_template.md"} <= package.keys()
    assert {name: content for name, content in wheel.items() if ".dist-info/" not in name} == package


def test_the_source_distribution_builds_the_same_wheel(built):
    of_tree, unpacked, of_sdist = built
    assert contents(of_tree) == contents(of_sdist)
    found = {path.name for path in unpacked.iterdir()} - {"build"}  # left by building the wheel
    assert found == {*FILES, "rarec_hf", "rarec_hf.egg-info", "PKG-INFO"}


def test_what_the_metadata_promise(built):
    wheel = contents(built[0])
    (name,) = (name for name in wheel if name.endswith(".dist-info/METADATA"))
    metadata = email.message_from_bytes(wheel[name])
    declared = ConfigParser()
    declared.read(ROOT / "setup.cfg", "utf-8")
    assert set(metadata.get_all("Provides-Extra")) == set(declared["options.extras_require"])
    versions = [re.search(r":: (3\.\d+)$", line) for line in metadata.get_all("Classifier")]
    minor = sorted(int(found[1].split(".")[1]) for found in versions if found)
    assert minor and metadata["Requires-Python"] == f">=3.{minor[0]}"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Version"] == re.search(r"__version__ = \"(.*)\"", wheel["rarec_hf/__init__.py"].decode())[1]


def links_of(text: str) -> list[str]:
    """The targets of all links and images of a page, as a CommonMark reader finds them."""
    inline = [child for token in MarkdownIt().enable("table").parse(text) for child in token.children or []]
    return [str(token.attrs.get("href") or token.attrs.get("src")) for token in inline if token.attrs]


def words_of(text: str) -> list[str]:
    tokens = MarkdownIt().enable("table").parse(text)
    parts = [part for token in tokens for part in (token.children or [token])]
    return "".join(part.content or " " * (not part.type.startswith("link_")) for part in parts).split()


def test_no_link_of_the_page_on_pypi_is_dead(built):
    """As far as it can be seen here: each names a host, and not a word is missing."""
    wheel = contents(built[0])
    (name,) = (name for name in wheel if name.endswith(".dist-info/METADATA"))
    page = wheel[name].decode().split("\n\n", 1)[1]
    readme = (ROOT / "README.md").read_text("utf-8")
    assert email.message_from_bytes(wheel[name])["Description-Content-Type"] == "text/markdown"
    assert words_of(page) == words_of(readme)
    assert links_of(page) and all(link.startswith("https://") for link in links_of(page))


def test_with_an_address_every_link_of_the_readme_is_kept():
    made = runpy.run_path(str(ROOT / "setup.py"))["long_description"]
    readme = (ROOT / "README.md").read_text("utf-8")
    relative = [link for link in links_of(readme) if not link.startswith("https://")]
    host = "https://host.invalid/us/rarec"
    led = [link.removeprefix(f"{host}/blob/main/") for link in links_of(made(readme, host))]
    assert relative and led == links_of(readme)
    for link in relative:
        assert (ROOT / link.partition("#")[0]).is_file(), link
    assert made("![a](b.png) ![c](https://d/e.png) [f](#g)", host) == (
        f"![a]({host}/raw/main/b.png) ![c](https://d/e.png) [f](#g)"
    )
    assert made("![a](b.png) [c](d.md#e) [f](https://g)", None) == "a c [f](https://g)"


def test_the_address_is_read_from_what_the_package_declares(tmp_path):
    read = (ROOT / "setup.py").read_text("utf-8")
    (tmp_path / "setup.py").write_text(read, "utf-8")
    address = runpy.run_path(str(tmp_path / "setup.py"))["source_address"]
    for urls, expected in (
        ("", None),
        ("project_urls =\n    Issues = https://a/b\n    Source = https://a/c/\n", "https://a/c"),
    ):
        (tmp_path / "setup.cfg").write_text(f"[metadata]\nname = n\n{urls}", "utf-8")
        assert address() == expected
