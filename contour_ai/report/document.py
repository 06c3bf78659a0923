"""A document of sections, as Markdown and as one HTML page; what nobody has said yet is marked as a gap."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from contour_ai.report.page import asset, escaped_text, fill
from contour_ai.report.tables import cell, html_table

GAP = "Gap"


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of texts."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Missing:
    """What a person has to write."""

    asked: str


@dataclass(frozen=True)
class Items:
    """A list."""

    items: Sequence[str]


Part = str | Table | Missing | Items


@dataclass(frozen=True, kw_only=True)
class Section:
    """A chapter."""

    heading: str
    parts: Sequence[Part]

    @property
    def gaps(self) -> tuple[str, ...]:
        """What is asked for in it."""
        return tuple(part.asked for part in self.parts if isinstance(part, Missing))


@dataclass(frozen=True, kw_only=True)
class Document:
    """Title, a line below it, and chapters."""

    title: str
    subtitle: str
    caution: str
    sections: Sequence[Section]

    @property
    def gaps(self) -> int:
        """Number of gaps."""
        return sum(len(section.gaps) for section in self.sections)

    @property
    def intro(self) -> str:
        """What is missing, in words."""
        return f"A draft: what is known is filled in; {self.gaps} gaps are marked and must be written by a person."


def markdown_of(document: Document) -> str:
    """The document as Markdown."""
    lines = [
        f"# {document.title}",
        document.subtitle,
        f"**{document.caution}** {document.intro}",
        *(text for section in document.sections for text in _markdown(section)),
    ]
    return "\n\n".join(line for line in lines if line) + "\n"


def html_of(document: Document) -> str:
    """The document as one page that fetches nothing."""
    body = "".join(text for section in document.sections for text in _html(section))
    texts = {
        "title": document.title,
        "subtitle": document.subtitle,
        "caution": document.caution,
        "intro": document.intro,
    }
    return fill(asset("document.html"), texts=texts, raw={"style": asset("document.css"), "body": body})


def _markdown(section: Section) -> Iterator[str]:
    yield f"## {section.heading}"
    for part in section.parts:
        if isinstance(part, Missing):
            yield f"> **{GAP}:** {part.asked}"
        elif isinstance(part, Items):
            yield "\n".join(f"- {item}" for item in part.items)
        elif isinstance(part, Table):
            rows = [part.head, ["---"] * len(part.head), *part.rows]
            yield "\n".join("| " + " | ".join(_one_line(text) for text in row) + " |" for row in rows)
        else:
            yield part


def _html(section: Section) -> Iterator[str]:
    yield f"<h2>{escaped_text(section.heading)}</h2>"
    for part in section.parts:
        if isinstance(part, Missing):
            yield f'<p class="gap"><b>{GAP}</b> {escaped_text(part.asked)}</p>'
        elif isinstance(part, Items):
            yield "<ul>" + "".join(f"<li>{escaped_text(item)}</li>" for item in part.items) + "</ul>"
        elif isinstance(part, Table):
            rows = [[cell(text, "words") for text in row] for row in part.rows]
            yield html_table(part.head, rows, part.head)
        else:
            yield f"<p>{escaped_text(part)}</p>"


def _one_line(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
