"""The forms in which a run of the checks is read: Markdown, JUnit, and the book with its graph."""

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest

from derivations.cli.errors import InputError
from derivations.pages import text as report
from derivations.pages.book import STORY, write_book
from derivations.proofs import CHAPTERS


@pytest.fixture
def results(every_claim):
    return every_claim


@pytest.fixture
def one_failed(results):
    broken = replace(results[0], verdict="failed", problems=["not equal, for example at a=1 | b=<2>"])
    return [broken, *results[1:]]


def test_the_book_has_every_claim_with_its_anchor_and_no_reference_leads_nowhere(results, tmp_path):
    write_book(results, tmp_path)
    pages = {page.stem: page.read_text() for page in tmp_path.glob("*.md")}
    assert set(pages) == {"index", "source", *CHAPTERS}
    anchors = set(re.findall(r"^\((.+)\)=$", "\n".join(pages.values()), re.MULTILINE))
    references = set(re.findall(r"\{ref\}`[^`<]*<([^>]+)>`", "\n".join(pages.values())))
    assert {result.claim.id for result in results} <= anchors
    assert references <= anchors
    for result in results:
        assert f"({result.claim.id})=" in pages[result.claim.chapter]
        assert f'{result.claim.chapter}.html#{result.claim.id}"' in pages["index"]  # the graph's links


def test_the_book_is_the_same_however_long_the_checks_took(results, tmp_path):
    slow = [replace(result, seconds=result.seconds + 1) for result in results]
    for found, folder in ((results, "first"), (slow, "slow")):
        write_book(found, tmp_path / folder)
    pages = [{page.name: page.read_text() for page in (tmp_path / folder).iterdir()} for folder in ("first", "slow")]
    assert pages[0] == pages[1]


def test_every_line_of_the_proof_page_names_claims_that_were_decided(results):
    page = (Path(__file__).parents[2] / "docs" / "proof.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\{ref\}`([a-z0-9-]+)`", page))
    decided = {result.claim.id for result in results if result.ok}
    assert len(named) >= 15
    assert named <= decided, named - decided
    for theorem in ("master-theorem", "repair-generalized", "rankings-by-name", "length-normalized-temperature"):
        assert theorem in named
    start, proof, rest = page.partition("## Proof")
    assert "## Theorem" in start
    paragraphs = [part for part in proof.split("\n\n") + rest.split("\n\n") if part.startswith("**")]
    assert all("{ref}`" in part for part in paragraphs)  # no bold line of the argument goes without its claim


def test_the_opening_table_takes_its_verdicts_from_the_run(results, one_failed, tmp_path):
    shown = {name for _, _, names in STORY for name in names}
    assert shown <= {result.claim.id for result in results}
    first = next(i for i, result in enumerate(results) if result.claim.id in shown)
    broken = [*results]
    broken[first] = replace(results[first], verdict="failed", problems=["planted"])
    write_book(broken, tmp_path)
    assert f"`{results[first].claim.id} <{results[first].claim.id}>`: FAILED" in (tmp_path / "index.md").read_text()


def test_the_source_page_shows_the_traced_lines_themselves(results, tmp_path):
    write_book(results, tmp_path)
    page = (tmp_path / "source.md").read_text()
    assert "def simpo(" in page
    assert "(source-regularizers-lengthnormalized.implicit_reward)=" in page
    assert "return (self.coefficient / length) * logp" in page


def test_markdown_begins_with_what_failed_and_its_table_stays_a_table(results, one_failed):
    good, bad = report.as_markdown(results, 1.0), report.as_markdown(one_failed, 1.0)
    assert good.startswith("## Derivations: ok")
    assert bad.startswith("## Derivations: FAILED")
    assert bad.index("not equal") < bad.index("| claim |")
    rows = [line for line in bad.splitlines() if line.startswith("| `")]
    assert len(rows) == len(results)
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 5 for row in rows)


def test_junit_counts_failures_and_escapes_what_xml_must_not_hold(results, one_failed):
    suite = ElementTree.fromstring(report.as_junit(one_failed, 1.0).encode())  # noqa: S314 (our own text)
    assert suite.attrib["tests"] == str(len(results))
    assert suite.attrib["failures"] == "1"
    failure = suite.find("testcase/failure")
    assert failure.attrib["message"] == "not equal, for example at a=1 | b=<2>"
    assert ElementTree.fromstring(report.as_junit(results, 1.0).encode()).attrib["failures"] == "0"  # noqa: S314


def test_every_numbered_line_of_the_theory_has_a_claim_and_every_citation_is_a_line(results):
    page = (Path(__file__).parents[2] / "docs" / "theory.md").read_text()
    lines = {"1", *re.findall(r"^\*\*(\d\.\d)\*\*", page, re.MULTILINE)}
    assert len(lines) == 1 + 9 + 5 + 8
    cited = set()
    for result in results:
        for first, last in re.findall(r"THEORY (\d(?:\.\d)?)(?: to (\d\.\d))?", result.claim.source):
            cited |= {first, last} - {""}
    assert cited == lines
    named = set(re.findall(r"\{ref\}`([^`]+)`", page))
    assert named <= {result.claim.id for result in results}


def test_a_folder_with_an_index_of_its_own_is_not_overwritten(results, tmp_path):
    (tmp_path / "index.md").write_text("# My thesis\n")
    with pytest.raises(InputError, match="not a book of claims"):
        write_book(results, tmp_path)
    assert (tmp_path / "index.md").read_text() == "# My thesis\n"
