"""Tables of a page as HTML."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from contour_ai.report.page import escaped_text


def html_table(head: Sequence[str], rows: Iterable[Sequence[str]], words: Collection[str] = ()) -> str:
    """A table that scrolls where it is wider than the page.

    Args:
        rows: of cells.
        words: headings of columns of text.
    """
    names = "".join(f"<th{' class=words' if n in words else ''}>{escaped_text(n)}</th>" for n in head)
    body = "".join(f"<tr>{''.join(cells)}</tr>" for cells in rows)
    return f'<div class="scroll"><table><thead><tr>{names}</tr></thead><tbody>{body}</tbody></table></div>'


def cell(text: str, kind: str = "") -> str:
    """A cell; `kind` is its class."""
    return f"<td{f' class={kind}' if kind else ''}>{escaped_text(text)}</td>"
