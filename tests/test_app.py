"""The page of examples/app.py in a real browser, on a model that examples/train.py made: started by its command."""

from __future__ import annotations

import os
import runpy
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = [
    pytest.mark.slow,  # trains a model and starts a server and a browser
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH (Debian: `apt-get install chromium`)"),
]
pytest.importorskip("gradio", reason="gradio is not installed (`pip install rarec_hf[app]`)")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

IMAGE = "<img src=x onerror=window.hacked=1>"
HOSTILE = [IMAGE, "<script>window.hacked=2</script>", '"><svg onload=window.hacked=3>', "${window.hacked=4} {{value}}"]


def environment() -> dict[str, str]:
    more = {"PYTHONPATH": os.pathsep.join(sys.path), "HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "passive"}
    return {**os.environ, **more}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from tests_support import save_inputs, walk_tables

    inputs = tmp_path_factory.mktemp("inputs")
    interactions, items = walk_tables()
    items.loc[: len(HOSTILE) - 1, "title"] = HOSTILE
    items.loc[len(HOSTILE), "title"] = "Amélie " + "and a title too long for one line " * 8
    items["genre"] = [f"{'even' if n % 2 == 0 else 'odd'}, <b>all</b>" for n in range(len(items))]
    save_inputs(inputs, (interactions, items))
    arguments = [
        *("--output_dir", str(inputs / "run"), "--disable_tqdm", "true", "--logging_steps", "1", "--fp32"),
        *("--interactions", str(inputs / "events.csv"), "--items", str(inputs / "items.jsonl")),
        *("--attribute_columns", "genre", "--backbone", str(inputs / "backbone"), "--encoder_hidden_size", "16"),
        *("--encoder_epochs", "3", "--alignment_samples", "32", "--num_train_epochs", "1"),
        *("--per_device_train_batch_size", "8"),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train.py", *arguments])
        runpy.run_path(str(EXAMPLES / "train.py"), run_name="__main__")
    return inputs / "run"


def free_port() -> int:
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))
        return some.getsockname()[1]


def wait_for(address: str, process: subprocess.Popen, log: Path) -> None:
    give_up = time.monotonic() + 600  # a busy machine takes minutes to import it all
    while time.monotonic() < give_up:
        assert process.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(log.read_text())


@pytest.fixture(scope="module")
def address(folder, tmp_path_factory):
    """Where the page is served, by the command of the docs."""
    port, log = free_port(), tmp_path_factory.mktemp("log") / "app.log"
    with log.open("w") as out:
        command = [sys.executable, str(EXAMPLES / "app.py"), str(folder), "--port", str(port)]
        process = subprocess.Popen(command, env=environment(), stdout=out, stderr=subprocess.STDOUT, cwd=folder)
    try:
        wait_for(f"http://127.0.0.1:{port}/", process, log)
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser, address):
    """`open_page(width=1200)`: a fresh visit; what it asked of other machines stands in `page.elsewhere`."""
    contexts = []

    def make(width: int = 1200, height: int = 900):
        context = browser.new_context(viewport={"width": width, "height": height})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(120_000)
        page.elsewhere, page.problems = [], []

        def route(request):
            if request.request.url.startswith((address, "data:", "blob:")):
                request.continue_()
            else:
                page.elsewhere.append(request.request.url)
                request.abort()

        page.route("**/*", route)
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.goto(address)
        page.wait_for_selector("#rr-page[data-ready]")
        return page

    yield make
    for context in contexts:
        context.close()


def search(page, words: str) -> list[str]:
    """Types and waits until the list is that of the words."""
    page.locator("#rr-search textarea, #rr-search input").fill("")
    page.locator("#rr-results ul").wait_for(state="detached")  # else a list of the same words is taken for the new one
    page.locator("#rr-search textarea, #rr-search input").press_sequentially(words)
    page.locator(f"#rr-results ul[aria-label='Titles found for “{words}”']").wait_for()
    return page.locator("#rr-results li .rr-title").all_inner_texts()


def add(page, words: str) -> None:
    before = page.locator("#rr-history li").count()
    search(page, words)
    page.locator("#rr-results button").first.click()
    page.wait_for_function(f"() => document.querySelectorAll('#rr-history li').length === {before + 1}")


def history(page) -> list[str]:
    return page.locator("#rr-history .rr-title").all_inner_texts()


def recommended(page, ranking: str = "RA-Rec") -> list[str]:
    page.wait_for_selector("#rr-lists section")
    return page.locator(f"#rr-lists section[aria-label='{ranking}'] .rr-title").all_inner_texts()


def wait_until(page, look, changed_from=None, seconds: float = 120):
    """What `look()` gives once it is other than `changed_from`."""
    for _ in range(int(seconds * 10)):
        if (now := look()) != changed_from:
            return now
        page.wait_for_timeout(100)
    raise AssertionError(f"Still {now!r} after {seconds} s.")


def scrolls_sideways(page) -> bool:
    return page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")


def test_empty_states_say_what_to_do(open_page):
    page = open_page()
    assert "Type part of a title" in page.locator("#rr-results").inner_text()
    assert "Search for a title and add it" in page.locator("#rr-history").inner_text()
    assert "once the history holds a title" in page.locator("#rr-lists").inner_text()
    page.locator("#rr-search textarea, #rr-search input").fill("no such title")
    page.get_by_text("No title holds “no such title”").wait_for()
    page.get_by_role("button", name="Fill in an example").click()
    assert len(wait_until(page, lambda: history(page), [])) == 3
    assert len(recommended(page)) == 10


def test_typing_narrows_and_the_lists_follow_the_history(open_page):
    page = open_page()
    many, few = search(page, "w1"), search(page, "w12")
    assert len(many) > len(few) == 1
    assert few == ["w12 w2"]
    add(page, "w12")
    first = recommended(page)
    assert len(first) == 10 and "w12 w2" not in first
    for ranking in ("ID encoder alone", "Text alone"):
        assert len(recommended(page, ranking)) == 10
    add(page, "w20")
    second = wait_until(page, lambda: recommended(page), first)
    assert "w20 w4" not in second

    page.get_by_label("Earlier: w20 w4").click()
    assert wait_until(page, lambda: history(page), ["w12 w2", "w20 w4"]) == ["w20 w4", "w12 w2"]
    page.get_by_label("Remove: w20 w4").click()
    wait_until(page, lambda: history(page), ["w20 w4", "w12 w2"])
    wait_until(page, lambda: recommended(page) == first, False)  # the same history, the same answer
    page.get_by_role("button", name="Clear the history").click()
    page.get_by_text("The history is empty. Search").wait_for()
    page.get_by_text("Recommendations appear here").wait_for()
    assert page.elsewhere == [] and page.problems == []


def test_filters_and_the_number_of_titles(open_page):
    page = open_page()
    add(page, "w12")
    before = recommended(page)
    page.get_by_role("button", name="How many, and filters").click()
    page.locator("#rr-k input[type=number]").fill("4")
    page.locator("#rr-k input[type=number]").press("Enter")
    assert wait_until(page, lambda: recommended(page), before) == before[:4]
    page.locator("#rr-holds textarea, #rr-holds input").fill("w12")
    page.get_by_text("No title passes the filters").wait_for()
    page.locator("#rr-seen input").uncheck()
    page.wait_for_selector("#rr-lists section")
    assert recommended(page) == ["w12 w2"]
    page.locator("#rr-holds textarea, #rr-holds input").fill("")
    wait_until(page, lambda: recommended(page), ["w12 w2"])
    box = page.locator("#rr-categories input")
    box.click()
    box.press_sequentially("odd")
    box.press("Enter")

    def odd() -> bool:
        names = recommended(page)
        return len(names) == 4 and all(int(n.split()[0][1:]) % 2 == 1 for n in names if n.startswith("w"))

    assert wait_until(page, odd, False)
    assert page.evaluate("window.hacked === undefined")


def test_keyboard_alone(open_page):
    """Tab to the search, type, Enter; Tab to the chips, move one and remove one; arrow keys on the map."""
    page = open_page()

    def tab_to(selector: str, most: int = 80) -> None:
        for _ in range(most):
            page.keyboard.press("Tab")
            if page.evaluate("s => document.activeElement?.closest(s) !== null", selector):
                return
        raise AssertionError(f"{most} times Tab did not reach {selector}.")

    tab_to("#rr-search")
    for n, words in enumerate(("w12", "w20", "w25"), 1):
        page.keyboard.type(words)
        page.keyboard.press("Enter")
        wait_until(page, lambda: len(history(page)), n - 1)
        assert len(history(page)) == n
        assert page.evaluate("document.activeElement.closest('#rr-search') !== null")
        assert page.evaluate("document.activeElement.value") == ""
    page.keyboard.type("w7")
    page.wait_for_selector("#rr-results ul[aria-label='Titles found for “w7”'] button")
    tab_to("#rr-results button")
    page.keyboard.press("Enter")
    wait_until(page, lambda: len(history(page)), 3)
    names = history(page)
    assert [name.split()[0] for name in names] == ["w12", "w20", "w25", "w7"]

    tab_to("#rr-history li:last-child button[data-act=up]")  # the focus goes with the title
    for place in (2, 1, 0):
        page.keyboard.press("Enter")
        wait_until(page, lambda: history(page).index(names[3]), place + 1)
        wait_until(page, lambda: page.evaluate("document.activeElement.dataset.key"), f"up-{place + 1}")
        assert history(page).index(names[3]) == place
        assert page.evaluate("document.activeElement.dataset.key") == f"up-{place}"
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert wait_until(page, lambda: history(page), [names[3], *names[:3]]) == names[:3]
    assert page.evaluate("document.activeElement.dataset.key") == "remove-0"
    for left in (2, 1, 0):
        page.keyboard.press("Space")
        wait_until(page, lambda: len(history(page)), left + 1)
    wait_until(page, lambda: page.evaluate("document.activeElement.closest('#rr-search') !== null"), False)
    page.get_by_text("Recommendations appear here").wait_for()  # no mark of the history before is left

    page.keyboard.type("w9")  # takes the place of the word before
    page.keyboard.press("Enter")
    wait_until(page, lambda: history(page), [])
    assert history(page) == ["w9 w1"]
    page.wait_for_selector("#rr-map-marks g.rr-user")
    page.wait_for_selector("#rr-map-marks g.rr-recommended")
    tab_to("#rr-map-marks svg")
    page.keyboard.press("ArrowRight")
    assert page.locator("#rr-tip").inner_text().startswith("1. recommended: ")
    page.keyboard.press("ArrowLeft")
    assert page.locator("#rr-tip").inner_text() == "the user"
    page.keyboard.press("Escape")
    assert not page.locator("#rr-tip").is_visible()


@pytest.mark.parametrize("width", [375, 1200])
def test_markup_in_titles_stays_text_and_nothing_scrolls_sideways(open_page, width):
    page = open_page(width, 812)
    assert not scrolls_sideways(page)
    for title, words in zip(HOSTILE, ("img", "script", "svg", "value"), strict=True):
        assert title in search(page, words)
        add(page, words)
    add(page, "amelie")  # without the accent
    assert history(page)[:4] == HOSTILE
    assert not scrolls_sideways(page)
    page.get_by_role("button", name="How many, and filters").click()
    page.locator("#rr-seen input").uncheck()
    page.locator("#rr-k input[type=number]").fill("30")
    page.locator("#rr-k input[type=number]").press("Enter")
    wait_until(page, lambda: len(recommended(page)) == 30, False)
    assert set(HOSTILE) < set(recommended(page)) & set(recommended(page, "Text alone"))
    assert not scrolls_sideways(page)
    for name in HOSTILE:  # under the pointer, in the map
        mark = page.locator("#rr-map-marks g.rr-chosen").nth(HOSTILE.index(name))
        mark.scroll_into_view_if_needed()
        box = mark.bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.locator("#rr-tip").wait_for()
    page.locator("#rr-map-marks svg").focus()
    told = set()
    for _ in range(36):
        page.keyboard.press("ArrowRight")
        told.add(page.locator("#rr-tip").inner_text())
    assert {f"1. of the history: {IMAGE}", f"4. of the history: {HOSTILE[3]}"} < told
    assert page.locator("#rr-page img, #rr-page script, #rr-page b:not(.rr-bar b)").count() == 0
    assert page.evaluate("window.hacked === undefined")
    assert not scrolls_sideways(page)
    assert page.elsewhere == []


def test_nothing_is_asked_of_other_machines(open_page):
    page = open_page()
    add(page, "w12")
    recommended(page)
    assert page.elsewhere == []
    assert page.problems == []


def test_what_is_missing_is_said_in_words(folder, tmp_path):
    def run(*arguments: str, **more: str) -> subprocess.CompletedProcess:
        command = [sys.executable, str(EXAMPLES / "app.py"), *arguments]
        clean = {k: v for k, v in environment().items() if k not in ("RAREC_MODEL", "SPACE_ID")} | more
        return subprocess.run(command, env=clean, capture_output=True, text=True, timeout=600)

    nothing = run()
    assert nothing.returncode == 1
    assert "No model is named. Give a folder or a Hub repository" in nothing.stderr
    missing = run(str(tmp_path / "nowhere"))
    assert missing.returncode == 1
    assert "nowhere" in missing.stderr and "Traceback" not in missing.stderr


def test_a_space_finds_its_model_by_the_variable_and_says_why_it_cannot(browser, folder, tmp_path):
    """One file in a folder of its own, as in a Space."""
    shutil.copy(EXAMPLES / "app.py", tmp_path / "app.py")
    for model, expected in ((str(folder), "30 titles"), (str(tmp_path / "nowhere"), "could not be loaded")):
        port, log = free_port(), tmp_path / "log"
        more = {"RAREC_MODEL": model, "SPACE_ID": "me/space", "GRADIO_SERVER_PORT": str(port)}
        with log.open("w") as out:
            process = subprocess.Popen(
                [sys.executable, "app.py"],
                env=environment() | more,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=tmp_path,
            )
        try:
            wait_for(f"http://127.0.0.1:{port}/", process, log)
            page = browser.new_page()
            page.goto(f"http://127.0.0.1:{port}/")
            page.get_by_text(expected).first.wait_for()
            page.close()
        finally:
            process.terminate()
            process.wait(20)
