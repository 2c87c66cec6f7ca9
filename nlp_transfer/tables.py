"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


def text_table(
    title: str, header: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int] = (0,), no_wrap: bool = False
) -> Table:
    """Lay out cells of text, which is never read as markup: a label may be called ``[b]``.

    Args:
        title: Shown above; none where it is empty.
        header: Names of the columns.
        rows: Cells of each row.
        left: Columns that are aligned to the left; the others hold numbers.
        no_wrap: Cells are not broken into lines.
    """
    from rich.table import Table
    from rich.text import Text

    made = Table(title=Text(title) if title else None, title_justify="left")
    for number, name in enumerate(header):
        made.add_column(Text(name), justify="left" if number in left else "right", no_wrap=no_wrap)
    for row in rows:
        made.add_row(*map(Text, row))
    return made
