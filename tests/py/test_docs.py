"""The documentation is true: its programs run, its commands print what it shows, its links and options exist."""
from __future__ import annotations

import re
import runpy
from pathlib import Path

import numpy as np
import pytest
from documents import DOCUMENTS, ROOT, Session, Step, difference, steps, tables, tokens
from test_layering import MAY_IMPORT

import jtc
from jtc.compiler.cpu import machine
from jtc.compiler.phases import PHASES
from jtc.tools.cli import main
from jtc.tools.tables import PLACE, fill


@pytest.fixture
def session(tmp_path, monkeypatch):
    """A Session in an empty directory, with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JTC_CACHE_DIR", str(tmp_path / ".cache"))
    return lambda document: Session(tmp_path, str(document))


@pytest.mark.slow
@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_what_is_shown_is_what_happens(document, session):
    if document.name == "convolution.md" and machine.host().name != "x86-64-v4":
        pytest.skip("it runs AVX-512 code, which this processor does not have")
    here = session(document)
    wrong = []
    for step in steps(ROOT / document):
        try:
            found = difference(step, here.run(step))
        except Exception as error:
            raise AssertionError(f"{document}:{step.line}: {type(error).__name__}: {error}") from error
        wrong += [f"{document}:{step.line}: {found}"] * bool(found)
    assert not wrong, "\n".join(wrong)


def test_readme_programs_are_right(session):
    here = session("README.md")
    for step in steps(ROOT / "README.md"):
        here.run(step)
    names = here.namespace
    q, k, v = (np.float64(names[n]) for n in "qkv")
    scores = np.exp(q @ k.swapaxes(1, 2) / np.sqrt(q.shape[-1]))
    np.testing.assert_allclose(names["out"], scores / scores.sum(-1, keepdims=True) @ v, rtol=1e-4, atol=1e-5)
    x, w = np.float32(np.arange(2 * 5 * 6).reshape(1, 2, 5, 6) % 7), np.float32(np.arange(36).reshape(2, 2, 3, 3) % 5)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))[:, :, ::2, ::2]
    np.testing.assert_array_equal(names["conv2d"](x, w, 2, 1), np.einsum("ncijpq,ocpq->noij", windows, w))
    assert len(jtc.explain(names["conv2d"], x, w).kernels) == 1


def test_a_wrong_output_is_found():
    step = Step("console", "echo", 1, "two  ... words\n")
    assert not difference(step, "two or three\nwords\n") and "Expected" in difference(step, "two\n")


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_links_lead_somewhere(document):
    links = [child.attrs["href"] for token in tokens(ROOT / document) for child in token.children or ()
             if child.type == "link_open"]
    for link in links:
        if not link.startswith(("http:", "https:")):
            file, _, heading = link.partition("#")
            target = (ROOT / document).parent / file if file else ROOT / document
            assert target.exists(), f"{document} links to {link}, which is not there"
            assert not heading or heading in headings(target), f"{document} links to {link}: there is no such heading"


def headings(document: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    blocks = tokens(document)
    titles = [text.content for block, text in zip(blocks, blocks[1:]) if block.type == "heading_open"]
    return {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_tables_are_those_of_the_code(document):
    text = (ROOT / document).read_text()
    assert text.count("<!-- table: ") == len(PLACE.findall(text)), "a table has no `<!-- end -->`"
    assert fill(text) == text, "run python -m jtc.tools.tables docs/*.md"


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_lines_stay_within_120_columns(document):
    lines = enumerate((ROOT / document).read_text().splitlines(), 1)
    assert [number for number, line in lines if len(line) > 120 and not line.startswith("|")] == []


PLACE_IN_PROJECT = re.compile(r"(?:frontend|dialects|passes|compiler|runtime|tools|tests|examples|docs)/[a-z0-9_./*-]+")


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_files_are_where_it_says(document):
    """Paths in `code` (capitals stand for what the reader puts there)."""
    named = [c.content for t in tokens(ROOT / document) for c in t.children or () if c.type == "code_inline"]
    missing = [name for name in named if PLACE_IN_PROJECT.fullmatch(name) and not any(ROOT.glob(name.rstrip("/")))]
    assert not missing


def test_documents_named_in_the_code_exist():
    sources = [path for folder in MAY_IMPORT for path in (ROOT / folder).rglob("*.py")]
    named = {name for path in sources for name in re.findall(r"docs/[\w-]+\.md", path.read_text())}
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_folders_may_import_what_the_architecture_says():
    rows = {row[0].strip("`/"): row for table in tables(ROOT / "docs" / "architecture.md") for row in table}
    assert {name: set(filter(None, rows[name][1].split(", "))) for name in MAY_IMPORT} == MAY_IMPORT


def test_measured_workloads_can_be_made():
    """Each of docs/performance.md has a graph in examples/kernels.py, and is one kernel unless it is transformed."""
    workloads = runpy.run_path(str(ROOT / "examples" / "kernels.py"))["WORKLOADS"]
    measured = next(table for table in tables(ROOT / "docs" / "performance.md") if len(table[0]) == 7)
    names = {name for row in measured for name in re.findall(r"`(\w+)`", row[0])}
    assert names - {"resnet50_infer_b1"} == set(workloads)
    for name, make in workloads.items():
        function, inputs = make()
        with jtc.knobs.use(winograd="off"):
            assert len(jtc.explain(function, *inputs).kernels) == 1, name


def commands(document: Path) -> list[str]:
    """Everything in a document's code that begins with `jtc `."""
    texts = [t.content for t in tokens(ROOT / document) if t.type in ("code_block", "fence")]
    texts += [c.content for t in tokens(ROOT / document) for c in t.children or () if c.type == "code_inline"]
    lines = (line.removeprefix("$ ").partition("#")[0].strip() for text in texts for line in text.splitlines())
    return [line for line in lines if line.startswith("jtc ")]


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_commands_and_options_exist(document, capsys):
    for command in commands(document):
        name = command.split()[1]
        if name in ("COMMAND", "--help", "--version"):
            continue
        try:
            code = main([name, "--help"])
        except SystemExit as end:               # of a command that parses its own arguments
            code = end.code
        assert code == 0, f"{document}: {command}"
        if name == "opt":
            assert main([name, "--list-passes"]) == 0
        known = capsys.readouterr().out
        for option in re.findall(r"--[\w-]+", command):
            assert re.search(rf"(?<![\w-]){option}(?![\w-])", known), f"{document}: there is no {option} in `{command}`"
        for phases in re.findall(r"--emit ([\w|]+)", command):
            assert set(phases.split("|")) <= {*PHASES, "PHASE"}, f"{document}: {command}"


def test_readme_names_commands():
    assert len(commands(Path("README.md"))) >= 6
