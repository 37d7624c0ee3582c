"""HTML elements that escape what they hold, and the frame of a self-contained page. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape

from statehub_plan.render.words import exact_moment, plain


class Html(str):
    """Text that is markup already; only this module makes it."""

    __slots__ = ()


def el(name: str, *children: str, **attributes: str) -> Html:
    """An element; children that are not markup are escaped. A trailing underscore in an attribute's name is dropped, an
    inner one becomes a dash."""
    shown = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(plain(value), quote=True)}"'
        for key, value in attributes.items()
    )
    return Html(f"<{name}{shown}>{join(children)}</{name}>")


def join(children: Iterable[str]) -> Html:
    """Children one after the other."""
    return Html("".join(one if isinstance(one, Html) else escape(plain(one), quote=True) for one in children))


def when(at: datetime | None) -> Html:
    """A moment that a machine can read too; a dash where there is none."""
    if at is None:
        return Html("–")
    return el("time", exact_moment(at), datetime=at.astimezone(UTC).isoformat())


def section(title: str, *children: str) -> Html:
    """A section with its heading."""
    return el("section", el("h2", title), *children)


def table(caption: str, titles: Sequence[str], rows: Iterable[Sequence[str]]) -> Html:
    """A table with a caption and column headers (scope=col); the first cell of a row is its header."""
    head = el("tr", *(el("th", title, scope="col") for title in titles))
    body = [el("tr", el("th", row[0], scope="row"), *(el("td", cell) for cell in row[1:])) for row in rows]
    return el("table", el("caption", caption), el("thead", head), el("tbody", *body))


def terms(pairs: Iterable[tuple[str, str]]) -> Html:
    """A list of names and values."""
    return el("dl", *(join((el("dt", name), el("dd", value))) for name, value in pairs))


def page(title: str, *children: str) -> str:
    """The whole document. Its policy forbids every script and every outside resource, whatever its text may hold."""
    head = (
        '<meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"{el('title', title)}<style>{_STYLE}</style>"
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{el("main", *children)}</body></html>\n'


_STYLE = """
:root { color-scheme: light dark; --text: #1b1b1f; --back: #fdfdfd; --soft: #5b5b66; --line: #c9c9d1; --good: #1e6b34;
 --bad: #a3201a; --bar: #6f8fc4; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e6ea; --back: #17171a; --soft: #a5a5b0; --line: #44444d;
 --good: #7fd197; --bad: #ff9d94; --bar: #5676ad; } }
body { margin: 0; background: var(--back); color: var(--text); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 70rem; margin: 0 auto; padding: 1.5rem; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1rem; font-size: .92rem; }
caption { text-align: left; color: var(--soft); padding-bottom: .25rem; }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--line);
 overflow-wrap: anywhere; }
tbody th { font-weight: 600; }
dl { display: grid; grid-template-columns: minmax(9rem, max-content) 1fr; gap: .2rem 1rem; margin: .5rem 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
code { font: .88em/1.4 ui-monospace, monospace; overflow-wrap: anywhere; }
.good { color: var(--good); font-weight: 600; } .bad { color: var(--bad); font-weight: 600; }
.soft { color: var(--soft); }
.bar { display: block; height: .5rem; background: var(--bar); min-width: 2px; }
.track { display: block; width: 10rem; max-width: 100%; }
@media print { body { background: #fff; color: #000; } }
""".strip()
