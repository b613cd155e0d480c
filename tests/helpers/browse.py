"""What a real browser sees, as JSON on stdout; a process of its own, so that a hung browser can be killed.

python tests/helpers/browse.py BROWSER page FILE WIDTH     # a page on disk, WIDTH pixels wide
python tests/helpers/browse.py BROWSER sliders URL         # notebook 02 in Voila
python tests/helpers/browse.py BROWSER explore FILE MOVES  # the explorer; MOVES: JSON, a list of {control: value}
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")
FLAGS += ("--disable-component-update", "--disable-sync")
MOVES = ("End", "Home", "ArrowRight", "ArrowLeft")  # of the slider; the last two cancel


def look(page: Page, file: str) -> dict[str, Any]:
    """What a page on disk asks for and complains about, how far it sticks out, and whether the keyboard opens it."""
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(Path(file).resolve().as_uri(), wait_until="load")
    page.wait_for_timeout(300)  # scripts that ask late
    sticks_out = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    broken = page.evaluate("[...document.images].filter(i => i.complete && !i.naturalWidth).length")
    outside = [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]
    return {"outside": outside, "said": said, "sticks_out": sticks_out, "broken": broken, "opened": tab_and_open(page)}


def tab_and_open(page: Page) -> bool:
    """Whether Tab reaches a folded part, and Enter opens it."""
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.tagName") == "SUMMARY":
            page.keyboard.press("Enter")
            return bool(page.evaluate("document.activeElement.parentElement.open"))
    return False


def slide(page: Page, url: str) -> list[dict[str, str]]:
    """Value and picture at the start and after each move of the coefficient's slider by the keyboard."""
    page.goto(url, wait_until="domcontentloaded")
    row = page.locator(".widget-slider", has_text="coefficient").first
    picture = page.locator(".jp-OutputArea-output img, .output_area img").last
    picture.wait_for()
    seen = [state(row, picture)]
    for key in MOVES:
        handle = row.locator(".noUi-handle")
        handle.focus()
        handle.press(key)
        # the old picture stays until the new one is there
        page.wait_for_function(
            "([image, old]) => image.isConnected === false || image.src !== old",
            arg=[picture.element_handle(), picture.get_attribute("src")],
        )
        picture.wait_for()
        seen.append(state(row, picture))
    return seen


def state(row: Any, picture: Any) -> dict[str, str]:
    source = picture.get_attribute("src")
    return {
        "value": row.locator(".widget-readout").inner_text(),
        "picture": hashlib.sha256(source.encode()).hexdigest(),
    }


def explore(page: Page, file: str, moves: list[dict[str, str]]) -> dict[str, Any]:
    """What the explorer shows at the start and after each move; a value that begins with `key:` is pressed."""
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(Path(file).resolve().as_uri())
    seen = []
    for move in ({}, *moves):
        for control, value in move.items():
            turn(page.locator(f"#{control}"), value)
        page.wait_for_function(
            "document.body.dataset.shown === location.hash || document.getElementById('mistake').textContent"
        )
        shown = {name: page.locator(f"#{name}").text_content() for name in ("mistake", "verdict")}
        cells = page.locator("#numbers td[data-mean]").evaluate_all("cells => cells.map(cell => ({...cell.dataset}))")
        seen.append(shown | {"command": page.input_value("#command"), "cells": cells})
    outside = [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]
    return {"seen": seen, "said": said, "outside": outside}


def turn(control: Any, value: str) -> None:
    if value.startswith("key:"):
        control.press(value.removeprefix("key:"))
    elif control.evaluate("control => control.tagName") == "SELECT":
        control.select_option(value)
    else:
        control.fill(value)


def main() -> None:
    browser_path, what, target, *rest = sys.argv[1:]
    width = rest if what == "page" else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=list(FLAGS), timeout=60_000)
        page = browser.new_page(viewport={"width": int(width[0]) if width else 1280, "height": 900})
        page.set_default_timeout(60_000)
        found: Any
        if what == "explore":
            found = explore(page, target, json.loads(rest[0]))
        else:
            found = look(page, target) if what == "page" else slide(page, target)
        browser.close()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
