"""Blocks of text, tables and pictures, which make up a report in any format."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.measures.drawing import Drawing


@dataclass(frozen=True)
class Heading:
    """The heading of a section."""

    text: str


@dataclass(frozen=True)
class Paragraph:
    """Plain text; `lead` marks the one that answers the question."""

    text: str
    lead: bool = False


@dataclass(frozen=True)
class Bullets:
    """A list of plain texts."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """Cells of plain text; every row is as long as the header."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Picture:
    """A drawing with its rendered vector image."""

    drawing: Drawing
    svg: bytes


Block = Heading | Paragraph | Bullets | Table | Picture
