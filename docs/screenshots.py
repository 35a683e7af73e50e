"""Takes the pictures of docs/app.md of a trained model, in a browser: `python docs/screenshots.py outputs/rarec`.

Wants `pip install "rarec_hf[app]" playwright` and a Chromium on the PATH. The page is the one of `examples/app.py`.
"""

from __future__ import annotations

import argparse
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from PIL import Image

DOCS = Path(__file__).resolve().parent
HISTORY = ("toy story", "alien", "blade runner")
SEARCH = "star"
PICTURES = {
    "app_desktop.png": (1280, None),
    "app_phone.png": (375, 1700),
}  # width; how much of the height, None for all


def serve(folder: str, port: int) -> subprocess.Popen:
    """The page's process, once it answers."""
    process = subprocess.Popen([sys.executable, str(DOCS.parent / "examples" / "app.py"), folder, "--port", str(port)])
    while process.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).close()
            return process
        except OSError:
            time.sleep(0.5)
    raise SystemExit(f"examples/app.py {folder} ended with {process.returncode}; what it wrote stands above.")


def search(page, words: str) -> None:
    box = page.locator("#rr-search textarea, #rr-search input")
    box.fill("")
    page.locator("#rr-results ul").wait_for(state="detached")
    box.press_sequentially(words)
    page.locator(f"#rr-results ul[aria-label='Titles found for “{words}”']").wait_for()


def take(browser, address: str, width: int, height: int | None, path: Path) -> None:
    """The page with a history, what is recommended for it, and titles found."""
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.set_default_timeout(120_000)
    page.goto(address)
    page.wait_for_selector("#rr-page[data-ready]")
    for n, words in enumerate(HISTORY, 1):
        search(page, words)
        page.locator("#rr-results button").first.click()
        page.wait_for_function(f"() => document.querySelectorAll('#rr-history li').length === {n}")
    search(page, SEARCH)
    page.wait_for_selector("#rr-map-marks g.rr-recommended")
    page.wait_for_timeout(3000)  # the lists of the latest history, and no spinner over them
    clip = None if height is None else {"x": 0, "y": 0, "width": width, "height": height}
    page.screenshot(path=path, full_page=True, clip=clip)
    Image.open(path).quantize(128).save(path, optimize=True)  # a third of the bytes
    print(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="of the model")
    parser.add_argument("--output_dir", type=Path, default=DOCS)
    arguments = parser.parse_args()
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise SystemExit("playwright is not installed: `pip install playwright`.") from error
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        raise SystemExit(
            "Found no chromium, chromium-browser or google-chrome on the PATH. Debian: `apt install chromium`."
        )
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))
        port = some.getsockname()[1]
    process = serve(arguments.folder, port)
    try:
        with sync_playwright() as running:
            browser = running.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            for name, (width, height) in PICTURES.items():
                take(browser, f"http://127.0.0.1:{port}/", width, height, arguments.output_dir / name)
            browser.close()
    finally:
        process.terminate()
        process.wait(20)


if __name__ == "__main__":
    main()
