"""What a reader's browser finds wrong with a built book: every page at a desk's and a phone's width, light and dark."""

import functools
import http.server
import shutil
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote, unquote, urldefrag

from playwright.sync_api import Browser, ConsoleMessage, TimeoutError, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WIDTHS = {"desk": (1280, 900), "phone": (390, 844)}
PATIENCE = 10_000  # milliseconds, for the first result of a search
THEMES = ("light", "dark")
TYPESET = "async () => { if (window.MathJax?.startup) await MathJax.startup.promise; await document.fonts.ready; }"
LOOKED_AT = """isStory => {
  const found = [], main = document.querySelector('article') || document.body, told = text => found.push(text);
  const page = document.documentElement.clientWidth;
  for (const image of document.images) {
    const name = image.src.slice(0, 100);
    const isThere = image.complete && image.naturalWidth > 0;
    if (!isThere) told(`picture ${name} is missing`);
    if (!isThere || !main.contains(image)) continue;
    if (!image.alt.trim()) told(`picture ${name} has no alternative text`);
    const corner = Object.assign(document.createElement('canvas'), {width: 1, height: 1}).getContext('2d');
    corner.drawImage(image, 0, 0);
    if (corner.getImageData(0, 0, 1, 1).data[3] < 255) told(`picture ${name} is transparent: unreadable in the dark`);
  }
  for (const error of document.querySelectorAll('mjx-merror'))
    told(`formula ${error.textContent} is not rendered`);
  const words = main.cloneNode(true);
  for (const code of words.querySelectorAll('pre, code, script, style, mjx-container')) code.remove();
  const raw = /\\$\\$|\\\\[(\\[]|\\{glue|glue:|papermill\\.record|<IPython/.exec(words.textContent);
  if (raw) told(`raw text: ${words.textContent.slice(raw.index - 30, raw.index + 50)}`);
  if (document.documentElement.scrollWidth > page + 1) told('the page is wider than its window');
  for (const table of main.querySelectorAll('table')) {
    if (table.offsetParent === null) continue;
    let around = table.parentElement;
    while (around !== main && getComputedStyle(around).overflowX === 'visible') around = around.parentElement;
    const scrolls = ['auto', 'scroll'].includes(getComputedStyle(around).overflowX) && around !== main;
    const isWide = table.getBoundingClientRect().width > around.clientWidth + 1;
    if (isWide && (isStory || !scrolls)) told(`table "${table.innerText.slice(0, 40)}" is wider than the page`);
  }
  const ids = [...main.querySelectorAll('[id]')].map(each => each.id);
  for (const id of new Set(ids.filter((each, place) => ids.indexOf(each) !== place))) told(`id ${id} is there twice`);
  const links = [...main.querySelectorAll('a[href]')].map(link => link.href);
  return {found, links, ids: [...document.querySelectorAll('[id]')].map(each => each.id)};
}"""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address under which a folder's files are served on this machine."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@contextmanager
def opened() -> Iterator[Browser]:
    """The installed browser, without a window."""
    with sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def faults(folder: Path, screenshots: Path) -> list[str]:
    """What is wrong with the pages of a book, in words; a picture of each page's first screen lies in `screenshots`."""
    pages = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.html") if _is_page(path))
    screenshots.mkdir(parents=True, exist_ok=True)
    with served(folder) as address, ThreadPoolExecutor(len(WIDTHS)) as pool:
        found, links, ids = [], {}, {}
        look = functools.partial(_looked_at, address, pages, screenshots)
        for told, own_links, own_ids in pool.map(look, WIDTHS):
            found, links, ids = found + told, links | own_links, ids | own_ids
        for name, own in links.items():
            dead = [
                link
                for link in own
                if link.startswith(address) and not _is_there(link.removeprefix(address), ids, folder)
            ]
            found += [f"{name}: link to {link.removeprefix(address)} leads nowhere" for link in dead]
        with opened() as browser:
            found += [] if hits(browser, address, "influence loss") else ["the search does not find 'influence loss'"]
    return found


def _looked_at(
    address: str, pages: Sequence[str], screenshots: Path, device: str
) -> tuple[list[str], dict[str, list[str]], dict[str, set[str]]]:
    """What is wrong with pages at one width, and by page its links and what links may lead to; a browser of its own."""
    found, links, ids, errors = [], {}, {}, []
    width, height = WIDTHS[device]
    with opened() as browser:
        page = browser.new_page(viewport={"width": width, "height": height})
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.extend(_error(message)))
        for name in pages:
            errors.clear()
            page.goto(address + name)
            page.evaluate(TYPESET)
            looked = page.evaluate(LOOKED_AT, name.replace(".html", "_details.html") in pages)
            for theme in THEMES:
                page.evaluate("theme => document.documentElement.dataset.theme = theme", theme)
                page.screenshot(path=screenshots / f"{Path(name).stem}-{device}-{theme}.png")
            found += [f"{name} ({device}): {told}" for told in (*looked["found"], *errors)]
            links[name], ids[name] = looked["links"], set(looked["ids"])
    return found, links, ids


def hits(browser: Browser, address: str, words: str) -> list[str]:
    """Titles of the pages that the book's search finds."""
    page = browser.new_page()
    page.goto(f"{address}search.html?q={quote(words)}")
    titles = page.locator("#search-results li a")
    with suppress(TimeoutError):  # where there is none
        titles.first.wait_for(timeout=PATIENCE)
    found = titles.all_inner_texts()
    page.close()
    return found


def _error(message: ConsoleMessage) -> list[str]:
    """What a page complains of, but for the picture in a browser's tab, which the book does not have."""
    is_error = message.type == "error" and not message.location.get("url", "").endswith("/favicon.ico")
    return [message.text] if is_error else []


def _is_page(path: Path) -> bool:
    """Whether a reader stays there: a theme's parts are no pages, and the book's address leads to its front page."""
    return "_static" not in path.parts and 'http-equiv="refresh"' not in path.read_text(encoding="utf-8").lower()


def _is_there(link: str, ids: dict[str, set[str]], folder: Path) -> bool:
    """Whether a link within the book leads to a file, and to a place in it that there is."""
    target, place = urldefrag(unquote(link.partition("?")[0]) or "index.html")
    return (folder / target).is_file() and (not place or target not in ids or place in ids[target])
