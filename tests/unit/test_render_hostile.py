"""Text from a plan, a database or a client is shown, never obeyed: no markup, no control characters, no scripts."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from statehub_plan.model.plan import Plan
from statehub_plan.render import plan_markdown, plan_mermaid, plan_view, run_report_html
from statehub_plan.render.flowchart import label
from statehub_plan.render.html import el
from statehub_plan.render.markdown import code, md, prose, table
from statehub_plan.render.text import line
from statehub_plan.render.words import plain, shown
from tests.golden import examples
from tests.golden.golden import on_screen

HOSTILE = (
    '"]:::x\n end; click s1 "javascript:alert(1)"',
    "<script>alert(1)</script><img src=//evil.example/x>",
    "\x1b[2J\x1b]0;title\x07\r\u202e evil",
    "[red]bold[/red] [link=https://evil.example]x[/link]",
    "| cell | `code` **bold** [a](https://evil.example) <b>",
    "` ``` ```` \\",
)


def hostile_plan(text: str) -> Plan:
    """The example with `text` wherever a person may write."""
    plan = examples.judged(examples.plan())
    metadata = plan.spec.metadata.model_copy(update={"title": text})
    gate = plan.spec.spec.gates[0].model_copy(update={"title": text})
    spec = plan.spec.spec.model_copy(update={"gates": (gate,)})
    steps = tuple(step.model_copy(update={"title": text, "because": text}) for step in plan.steps)
    return plan.model_copy(
        update={
            "spec": plan.spec.model_copy(update={"metadata": metadata, "spec": spec}),
            "steps": steps,
            "author": text,
        }
    )


@pytest.mark.parametrize("text", HOSTILE)
def test_a_screen_shows_no_control_characters_and_no_markup(text: str) -> None:
    """Nothing moves the cursor, changes the title or hides what stands there; rich tags stay text."""
    told = on_screen(plan_view(hostile_plan(text), saved_as="x.plan"))
    assert all(sign.isprintable() or sign == "\n" for sign in told)
    if text.startswith("[red]"):
        assert "[red]bold[/red]" in told


@pytest.mark.parametrize("text", HOSTILE)
def test_a_flowchart_keeps_its_shape(text: str) -> None:
    """Whatever a title holds, the diagram has the same nodes and edges."""
    plain_lines = [line.split('"')[0] for line in plan_mermaid(hostile_plan("x")).splitlines()]
    hostile_lines = [line.split('"')[0] for line in plan_mermaid(hostile_plan(text)).splitlines()]
    assert plain_lines == hostile_lines
    assert all(line.count('"') in (0, 2) for line in plan_mermaid(hostile_plan(text)).splitlines())


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_keeps_its_tables(text: str) -> None:
    """Every row has the cells of its header; no tag and no link comes from a title."""
    lines = plan_markdown(hostile_plan(text)).splitlines()
    assert len(plan_markdown(hostile_plan("x")).splitlines()) == len(lines)
    assert not any("<script" in line or "<img" in line or "](https" in line.replace("\\]", "") for line in lines)


class Page(HTMLParser):
    """Tags, and every attribute that could load or run something."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.active: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in ("meta", "br"):
            self.open.append(tag)
        self.active += [name for name, _ in attrs if name in ("src", "href", "action") or name.startswith("on")]

    def handle_endtag(self, tag: str) -> None:
        assert tag == self.open.pop()


@pytest.mark.parametrize("text", HOSTILE)
def test_a_report_is_inert_and_well_formed(text: str) -> None:
    """No script, nothing that loads from elsewhere, every element closed: it can be mailed and opened anywhere."""
    found = Page()
    gates = (examples.gate_state(examples.approval(reason=text, detail=text)),)
    found.feed(run_report_html(hostile_plan(text), examples.cutover("finished"), gates, examples.NOW))
    assert [] == found.open
    assert [] == found.active
    assert {"script", "img", "link", "iframe"}.isdisjoint(found.tags)
    assert 1 == found.tags.count("h1")


def test_each_table_of_a_report_can_be_read_aloud() -> None:
    """A caption and header cells, so that a screen reader says what a figure means."""
    page = run_report_html(examples.judged(examples.plan()), examples.cutover(), (), examples.NOW)
    assert page.count("<table>") == page.count("<caption>") > 0
    assert '<html lang="en">' in page
    assert 'scope="col"' in page
    assert 'scope="row"' in page


def test_elements_escape_text_and_attributes() -> None:
    """Markup is what this module made; everything else is text."""
    assert '<p title="&quot;&gt;">&lt;b&gt;<i>x</i></p>' == el("p", "<b>", el("i", "x"), title='">')


def test_labels_escape_what_could_end_them() -> None:
    """Mermaid reads `#34;` as a quotation mark inside a label."""
    assert '"a #34;b#34;<br/>c#59;"' == label('a "b"', "c;")


@pytest.mark.parametrize(
    ("text", "told"),
    [("a`b", "``a`b``"), ("`", "`` ` ``"), ("a|b", "`a\\|b`"), ("", "")],
)
def test_code_spans_hold_backticks(text: str, told: str) -> None:
    """A span's fence is longer than any run of backticks inside (CommonMark 0.31, 6.1)."""
    assert told == code(text)


def test_markdown_escapes() -> None:
    """Text from outside means itself; a plan's own sentences may use code spans and emphasis."""
    assert "&lt;b&gt; \\*x\\* \\| \\[a\\](b) \\`c\\`" == md("<b> *x* | [a](b) `c`")
    assert "&lt;b&gt; *x* \\| `c`" == prose("<b> *x* | `c`")
    assert ["| a |", "| --- |", "| x \\| y |"] == table(("a",), [(md("x | y"),)])


def test_plain_text_is_one_line() -> None:
    """Line breaks would fake further lines of output."""
    assert "a b" == plain(" a\n\tb ")
    assert "x\\u{202e}y" == plain("x\u202ey")
    assert "a b\n" == on_screen(line("a\nb"))


def test_long_values_say_that_they_were_cut() -> None:
    """Nobody takes a shortened value for the whole one."""
    assert "abcd…" == shown("abcdefgh", 5)
    assert '""' == shown("")
