"""Whatever a study calls itself stands on the page as it is: neither markup nor a link."""

import pytest
from etils import epath
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from analysis.__main__ import main
from analysis.design.cells import crossed
from analysis.design.simulation import Truth, simulate
from analysis.design.study_folder import save
from analysis.measures.blocks import Block, Bullets, Heading, Paragraph, Picture, Table
from analysis.measures.drawing import Drawing
from analysis.report.markup import to_html, to_markdown
from tests.analysis.markup import Page, page_of
from tests.analysis.sealing import rewrite_file, rewrite_lines

HOSTILE = (
    "<script>alert(1)</script>",
    "</p><img src=x onerror=alert(1)>",
    '" onload="alert(1)',
    "<!-- ", "<![CDATA[", "&lt;b&gt;", "&#x3c;",
    "[a](javascript:alert(1))", "![a](javascript:alert(1))", "<javascript:alert(1)>",
    "[a]: javascript:alert(1)", "https://example.com", "www.example.com",
    "a|b", "a\\|b", "| - |", "|---|", "\\", "\\\\", "a\nb", "a\r\n\r\n# b", "\n\n---\n\n",
    "`a`", "``", "```\na", "~~~", "~~a~~", "**a**", "__a__", "*", "_a_", "$x$", "$", "# a", "a #",
    "- a", "+ a", "* a", "1. a", "12) a", "===", "---", "> a", "    a", "\ta", "- [ ] a", "",
)  # fmt: skip
texts = st.one_of(
    st.sampled_from(HOSTILE),
    st.lists(st.sampled_from(HOSTILE), max_size=4).map("".join),
    st.text(max_size=20),
    st.text("<>&\"'`*_[]()#|\\~$!-+=:./ \n\r\tab1", max_size=20),
)


def blocks_of(text: str) -> list[Block]:
    drawing = Drawing("name", text, text, Figure(), (), [])
    return [
        Heading(text),
        Paragraph(text),
        Paragraph(text, lead=True),
        Bullets((text, "b", text)),
        Table(("a", text, "c"), ((text, "b", text), ("a", text, "c"))),
        Picture(drawing, b"<svg/>"),
    ]


PLAIN = "plain"


def shape(page: Page) -> list[tuple[str, list[str]]]:
    """The elements and the names of their attributes."""
    return [(tag, sorted(attributes)) for tag, attributes in page.elements]


@settings(max_examples=300)
@given(texts)
def test_html_has_the_elements_of_the_template_and_the_text_as_it_is(text):
    page = Page(to_html(text, text, blocks_of(text)))
    template = Page(to_html(PLAIN, PLAIN, blocks_of(PLAIN)))
    assert shape(page) == shape(template) and page.others == template.others
    assert page.text == template.text.replace(PLAIN, text)
    [image] = [attributes for tag, attributes in page.elements if tag == "img"]
    assert image["alt"] == text and image["src"].startswith("data:image/svg+xml;base64,")


@settings(max_examples=300)
@given(texts)
def test_markdown_has_the_elements_of_the_template_and_the_text_as_it_is(text):
    written = to_markdown(text, text, blocks_of(text))
    assert "<" not in written
    page, template = page_of(written), page_of(to_markdown(PLAIN, PLAIN, blocks_of(PLAIN)))
    # Markdown cannot tell one space or end of line from several, and has no NUL.
    words = " ".join(text.replace("\0", "\ufffd").split())
    if words:
        assert shape(page) == shape(template)
    assert " ".join(page.text.split()) == " ".join(template.text.replace(PLAIN, words).split())
    for tag, attributes in page.elements:
        assert tag != "a" and attributes.get("src", "figures/name.png") == "figures/name.png"
    rows = [line for line in written.splitlines() if line.startswith("| ")]
    assert len(rows) == 4 and all(line.count("|") == 4 for line in rows)


@pytest.mark.parametrize("name", ["javascript:alert(1)", "../../a", "a) [b](c", "//host/a"])
def test_a_picture_in_markdown_is_a_file_beside_it(name):
    drawing = Drawing(name, "title", "caption", Figure(), (), [])
    page = page_of(to_markdown("title", "", [Picture(drawing, b"")]))
    [source] = [attributes["src"] for tag, attributes in page.elements if tag == "img"]
    assert source.startswith("figures/")


ODD = "<b>$x</b>|`[a](javascript:b)\x1b[31m\x9b2J\u202e\n../../=1+1"
SEEN = "<b>$x</b>|`[a](javascript:b)\\x1b[31m\\x9b2J\\u202e\\n../../=1+1"


@pytest.fixture
def odd(tmp_path):
    """A study whose every text is odd."""
    place = epath.Path(tmp_path) / "study"
    save(simulate(crossed((("S", 1e8, 2e9),), (0, 100), 2, 4), Truth(), 0), place)
    odd_run = {"size": ODD, "attack": ODD, "schedule": ODD}
    rewrite_file(
        place / "study.json",
        lambda plan: {
            **plan,
            **{"name": ODD, "hash": ODD, "versions": {ODD: ODD}},
            "runs": [run | odd_run | {"seed": ODD + run["seed"]} for run in plan["runs"]],
        },
    )

    def measured(record):
        ratio = [record["poisons"] / 30] * record["prompts"]
        flat = [0.0] * record["prompts"]
        near = {"name": ODD, "text": ODD, "payload_log_ratio": flat}
        both = {"clean": flat, "triggered": ratio}
        return record | {"payload_log_ratio": both, "near_triggers": [near]}

    for file in place.glob("runs/*/evals.jsonl"):
        rewrite_lines(file, measured)
    (place / "runs" / "folder\x1b[2J").mkdir()
    return place


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("format", ["html", "md"])
def test_odd_names_are_shown_as_they_are_and_steer_no_terminal(odd, tmp_path, capsys, format):
    assert main([str(odd), "--out", str(tmp_path / "report"), "--format", format]) == 0
    printed = capsys.readouterr().out
    assert SEEN in printed
    assert not any(c != "\n" and not c.isprintable() for c in printed)
    written = (tmp_path / "report" / f"index.{format}").read_text()
    page = Page(written) if format == "html" else page_of(written)
    assert f"Poisoning study: {SEEN}" in page.text and "folder\\x1b[2J" in page.text
    assert not {tag for tag, _ in page.elements} & {"b", "a", "script"}
    for figure in (tmp_path / "report" / "figures").glob("*.svg"):
        assert "\x1b" not in figure.read_text()
