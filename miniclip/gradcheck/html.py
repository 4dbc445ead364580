"""A report in a notebook: what is wrong first and large, beside a small picture of it; what is right is folded.

Inline styles and SVG alone, no script. Colours are of middle brightness, and the background is the page's, so that it
can be read on light and on dark pages.
"""

from html import escape
from typing import NamedTuple

import numpy as np

ROWS, COLUMNS = 12, 24  # of a picture; of a larger array it shows a part
SHOWN = 6  # arrays that are wrong and shown at once; the others are folded
LARGE = "font-size: 1.15em; margin: .4em 0"
SMALL = "font-size: .85em; opacity: .8"
CELL = "padding: .15em .9em .15em 0; text-align: left; white-space: nowrap; background: none"
COLOURS = {"ok": "#2a9d4a", "WRONG": "#d9463d", "could not be checked": "#c07a00"}
MARKS = {"ok": "✓", "WRONG": "✗", "could not be checked": "?"}
RED, BLUE, GREY, ORANGE = (178, 24, 43), (33, 102, 172), "rgba(128, 128, 128, .45)", "#e69f00"


class Picture(NamedTuple):
    """A part of a gradient as a matrix, the last axis across: what is claimed beside what is true."""

    claimed: np.ndarray  # (rows, columns)
    found: np.ndarray  # the same, NaN where it was not evaluated
    corner: tuple  # (row, column) where this part begins
    shape: tuple  # of the whole matrix
    worst: tuple  # (row, column) in the whole


def picture_of(claimed, found, index=()):
    """The `Picture` of two arrays of one shape, around one place in them; None of a single number."""
    claimed, found = np.asarray(claimed, float), np.asarray(found, float)
    if claimed.size < 2:
        return None
    columns = claimed.shape[-1]
    flat = int(np.ravel_multi_index(index, claimed.shape)) if index else 0
    place, shape = divmod(flat, columns), (claimed.size // columns, columns)
    corner = tuple(max(0, min(i - most // 2, n - most)) for i, n, most in zip(place, shape, (ROWS, COLUMNS)))
    part = np.s_[corner[0] : corner[0] + ROWS, corner[1] : corner[1] + COLUMNS]
    return Picture(claimed.reshape(shape)[part].copy(), found.reshape(shape)[part].copy(), corner, shape, place)


# ------------------------------------------------------------------------------------------ the report


def report_html(report):
    """HTML of a `Report`."""
    verdict = report.verdict
    wrong = [row for row in report.rows if row.verdict == "WRONG"]
    unknown = [row for row in report.rows if row.verdict == "unchecked"]
    right = [row for row in report.rows if row.ok]
    headline = f"<b style='color: {COLOURS[verdict]}'>{MARKS[verdict]} {escape(report.headline)}</b>"
    sentences = [headline, *map(escape, report.problems), escape(report.summary)]
    parts = [f"<div style='{LARGE}'>{sentence}</div>" for sentence in sentences if sentence]
    parts += map(wrong_html, wrong[:SHOWN])
    parts += [f"<div style='{LARGE}'><b>{escape(row.name)}</b>: {escape(row.why)}</div>" for row in unknown]
    if wrong or unknown:
        parts.append(table(wrong + unknown))
    if more := wrong[SHOWN:]:
        parts.append(folded(count(more, "more ", "wrong"), "".join(map(wrong_html, more))))
    if right:
        parts.append(folded(count(right, "", "right"), table(right)))
    parts += [f"<div style='{SMALL}'>{escape(note)}</div>" for note in report.notes]
    return f"<div>{''.join(parts)}</div>"


def wrong_html(row):
    """What is probably wrong with an array, where, and how that looks."""
    where = next(row.notes()).removeprefix("WRONG: ")
    why = f"<b>{escape(row.name)}</b> is wrong. " + (f"Probably: {escape(row.why)}" if row.why else "")
    picture = picture_html(row.picture) if row.picture else ""
    return f"<div style='{LARGE}'>{why}</div><div>{escape(where)}</div>{picture}"


def count(rows, more, what):
    """ "1 array is right", "3 more arrays are wrong"."""
    return f"1 {more}array is {what}" if len(rows) == 1 else f"{len(rows)} {more}arrays are {what}"


def folded(summary, inside):
    """HTML that shows a summary, and what is inside once it is opened."""
    return f"<details><summary style='cursor: pointer'>{escape(summary)}</summary>{inside}</details>"


def table(rows):
    """The rows of a report as a table, numbers to four digits."""
    heads = ("array", "shape", "largest claimed", "largest true", "relative error", "digits", "worst at", "verdict")
    lines = ["".join(f"<th style='{CELL}; {SMALL}'>{head}</th>" for head in heads)]
    for row in rows:
        numbers = [four_digits(number) for number in (row.analytic, row.numeric, row.error)]
        digits = "–" if row.digits is None else row.digits
        cells = row.name, row.cells()[1], *numbers, digits, list(row.index) if row.index else "", row.verdict
        lines.append("".join(f"<td style='{CELL}'>{escape(str(cell))}</td>" for cell in cells))
        if row.ok and row.why:
            lines.append(
                f"<td style='{CELL}; white-space: normal; {SMALL}' colspan='{len(heads)}'>{escape(row.why)}</td>"
            )
    rows = "".join(f"<tr style='background: none'>{line}</tr>" for line in lines)
    return f"<table style='border-collapse: collapse; margin: .5em 0'>{rows}</table>"


def four_digits(number):
    """A number in four digits, a dash where it is not finite."""
    return f"{number:.4g}" if np.isfinite(number) else "–"


# ------------------------------------------------------------------------------------------ pictures


def picture_html(picture, true="true"):
    """Both sides of a `Picture` in one scale of colours, and their difference in its own. true: title of the second."""
    claimed, found, corner, shape, worst = picture
    difference = claimed - found
    limit, own_limit = largest(claimed, found), largest(difference)
    mark = tuple(place - first for place, first in zip(worst, corner))
    apart = f"difference, up to {four_digits(own_limit)}" if np.nan_to_num(difference).any() else "no difference"
    box = "display: inline-block; margin: .3em 1.5em .3em 0; vertical-align: top"
    figures = "".join(
        f"<div style='{box}'><div style='{SMALL}'>{escape(title)}</div>{svg(values, end, mark)}</div>"
        for title, values, end in (("claimed", claimed, limit), (true, found, limit), (apart, difference, own_limit))
    )
    text = f"red {four_digits(limit)}, white 0, blue {four_digits(-limit)}; framed: the worst entry"
    text += ", grey: not evaluated" if np.isnan(found).any() else ""
    if claimed.shape != shape:
        rows, columns = (f"{first} to {first + n - 1}" for first, n in zip(corner, claimed.shape))
        text += f"; rows {rows} and columns {columns} of {shape[0]} × {shape[1]}"
    return f"<div>{figures}</div><div style='{SMALL}'>{escape(text)}</div>"


def svg(values, limit, mark=None):
    """A matrix as coloured cells: blue below 0, white, red above, grey where it is not known."""
    rows, columns = values.shape
    side = max(5, min(16, 260 // columns))
    cells = [
        f"<rect x='{j}' y='{i}' width='1' height='1' fill='{colour(value, limit)}'/>"
        for i, line in enumerate(values)
        for j, value in enumerate(line)
    ]
    if mark is not None:
        frame = f"fill='none' stroke='{ORANGE}' stroke-width='.2'"
        cells.append(f"<rect x='{mark[1] + 0.1}' y='{mark[0] + 0.1}' width='.8' height='.8' {frame}/>")
    size = f"width='{side * columns}' height='{side * rows}' viewBox='0 0 {columns} {rows}'"
    style = f"style='outline: 1px solid {GREY}' shape-rendering='crispEdges' xmlns='http://www.w3.org/2000/svg'"
    return f"<svg {size} {style}>{''.join(cells)}</svg>"


def colour(value, limit):
    """White at 0, red at `limit`, blue at −`limit`, grey where it is not finite: #rrggbb."""
    if not np.isfinite(value):
        return GREY
    share = min(1.0, abs(value) / limit)
    end = RED if value > 0 else BLUE
    return "#" + "".join(f"{round(255 + share * (channel - 255)):02x}" for channel in end)


def largest(*arrays):
    """The largest finite |value|: the end of a scale of colours; 1 where all are 0."""
    return max(float(np.max(np.abs(a[np.isfinite(a)]), initial=0)) for a in arrays) or 1.0
