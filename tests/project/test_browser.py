"""In a real browser: the report and the docs ask for nothing and fit a phone, and the sliders of notebook 02 work."""

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import nbformat
import pytest

from tests.helpers.browser import BROWSER, browse, stop

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "out" / "docs"

pytest.importorskip("playwright", reason="playwright is not installed: pip install '.[browser]'")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium: apt-get install chromium")


@pytest.mark.parametrize("width", [1280, 390])
def test_the_report_asks_for_nothing_fits_the_screen_and_opens_by_keyboard(report_page, width):
    found = browse("page", report_page, width)
    assert found == {"outside": [], "said": [], "sticks_out": 0, "broken": 0, "opened": True}


@pytest.mark.parametrize("name", ["index.html", "book/index.html", "notebooks/05_language_model.html"])
def test_the_docs_ask_for_nothing_and_fit_a_phone(name):
    if not (DOCS / name).exists():
        pytest.skip(f"out/docs/{name} is not built: make docs")
    found = browse("page", DOCS / name, 390)
    assert (found["outside"], found["said"], found["sticks_out"], found["broken"]) == ([], [], 0, 0)


def test_a_request_to_the_network_and_an_error_in_a_script_would_be_noticed(tmp_path):
    page = tmp_path / "page.html"
    page.write_text('<img src="http://127.0.0.1:9/none.png"><div style="width:999px">wide</div><script>oops()</script>')
    found = browse("page", page, 390)
    assert found["outside"] == ["http://127.0.0.1:9/none.png"]
    assert any("oops" in said for said in found["said"])
    assert found["sticks_out"] > 0
    assert not found["opened"]


@pytest.fixture
def voila(tmp_path):
    """Address of the cells of notebook 02 that its sliders need, as Voila serves them."""
    notebook = nbformat.read(ROOT / "notebooks" / "02_overoptimization.ipynb", as_version=4)
    wanted = ("%matplotlib", "def curves", "widgets.VBox")
    notebook.cells = [cell for cell in notebook.cells if any(word in cell.source for word in wanted)]
    path = tmp_path / "sliders.ipynb"
    nbformat.write(notebook, path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "voila", path, "--no-browser", f"--port={port}", "--Voila.ip=127.0.0.1"]
    log = (tmp_path / "voila.log").open("w")
    process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        address = f"http://127.0.0.1:{port}/"
        wait_for(f"{address}voila/static/", process, tmp_path / "voila.log")
        yield address
    finally:
        stop(process)
        log.close()


def wait_for(address, process, log, seconds=60):
    """Until the server answers anything at all."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=5)  # noqa: S310
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.2)
        else:
            return
    pytest.fail(f"Voila did not start: {log.read_text()[-2000:]}")


def test_moving_the_slider_of_notebook_02_redraws_its_curve(voila):
    start, strongest, weakest, up, back = browse("sliders", voila)
    assert float(start["value"]) == pytest.approx(0.5, abs=0.01)  # the readout has two digits
    assert float(strongest["value"]) == pytest.approx(10**0.5, rel=0.01)
    assert float(weakest["value"]) == pytest.approx(0.01)
    assert len({state["picture"] for state in (start, strongest, weakest, up)}) == 4
    assert back == weakest  # the same value gives the same picture: it is the slider that changes it, not chance
