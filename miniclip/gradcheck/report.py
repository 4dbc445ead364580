"""What a gradient check found: a row for each array, to print, to show in a notebook, or to ask.

relative error   the largest |analytic − numeric| over the largest of either, entry by entry
α                the number by which numeric is best multiplied to give analytic: 1 when all is well,
                 and 2, −1 or the batch size when a factor is wrong
cos              the cosine between the two: 1 when only a factor is wrong
"""

from dataclasses import asdict, dataclass, field
from html import escape

import numpy as np

COLUMNS = ("array", "shape", "|analytic|", "|numeric|", "rel. error", "α", "cos", "worst at", "verdict")


@dataclass
class Row:
    """One array: how far its gradient is from the truth, and where it is farthest."""

    name: str
    shape: tuple
    analytic: float  # largest absolute value that backward gives, where looked at; of "adjoint",
    numeric: float  # that of ⟨Jᵀ c, u⟩. And what the forward pass gives: of "adjoint", ⟨c, J u⟩
    error: float  # worst relative error
    scale: float = np.nan  # α
    cosine: float = np.nan
    index: tuple = ()  # where the error is worst
    claimed: float = np.nan  # there, what backward says
    found: float = np.nan  # there, what the forward pass says
    verdict: str = "ok"  # ok, zero (truly, on both sides), kink, unsafe or WRONG
    kind: str = ""  # of the diagnosis (see diagnosis.py)
    why: str = ""  # its sentence

    @property
    def ok(self):
        return self.verdict in ("ok", "zero", "kink")

    def cells(self):
        """The row as text, in the order of COLUMNS."""

        def number(x, form):
            return "–" if np.isnan(x) else format(x, form)

        return (
            self.name,
            " × ".join(map(str, self.shape)) or "number",
            f"{self.analytic:.1e}",
            f"{self.numeric:.1e}",
            f"{self.error:.1e}",
            number(self.scale, ".6g"),
            number(self.cosine, ".6f"),
            str(list(self.index)) if self.index else "",
            self.verdict,
        )

    def notes(self):
        """Sentences about what is not simply right."""
        place = f"{self.name}{list(self.index) or ''}"
        if self.verdict == "WRONG":
            yield f"WRONG: {place} is {self.claimed}, should be {self.found}."
        if self.why:
            yield f"{'Probably' if self.verdict == 'WRONG' else 'Note'}: {self.why}"


@dataclass
class Report:
    """The verdict: `.ok`, `.max_error`, a row for each array, the preflight's problems. Print it."""

    function: str
    method: str
    tolerance: float
    problems: list = field(default_factory=list)
    rows: list = field(default_factory=list)

    @property
    def max_error(self):
        """The worst relative error of all arrays; infinite where the preflight failed."""
        return float(np.max([row.error for row in self.rows])) if self.rows and not self.problems else np.inf

    @property
    def ok(self):
        return not self.problems and self.max_error <= self.tolerance and all(row.ok for row in self.rows)

    @property
    def headline(self):
        """One line: what was checked, how, and whether it is right."""
        bad = {row.verdict for row in self.rows if not row.ok}
        verdict = "ok" if self.ok else "unsafe" if bad == {"unsafe"} else "WRONG"
        return (
            f"{self.function}: {self.method}, {verdict}, worst error {self.max_error:.1e} "
            f"(at most {self.tolerance:.0e})"
        )

    def to_json(self):
        """The report as a dict that JSON can hold."""

        def plain(value):
            return None if isinstance(value, float) and not np.isfinite(value) else value

        rows = [{key: plain(value) for key, value in asdict(row).items()} for row in self.rows]
        return {
            "function": self.function,
            "method": self.method,
            "tolerance": self.tolerance,
            "ok": self.ok,
            "max_error": plain(self.max_error),
            "problems": self.problems,
            "rows": rows,
        }

    def __str__(self):
        lines = [self.headline, *(f"  {problem}" for problem in self.problems)]
        table = [COLUMNS, *(row.cells() for row in self.rows)] if self.rows else []
        widths = [max(map(len, column)) for column in zip(*table)]
        for row, cells in zip([None, *self.rows], table):
            first, *middle, last = cells
            padded = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(middle, widths[1:]))]
            lines.append("  " + "  ".join([*padded, last]))
            lines += [f"    {note}" for note in row.notes()] if row else []
        return "\n".join(lines)

    def _repr_html_(self):
        colour = {True: "#1a7f37", False: "#b3261e"}
        lines = [f"<p><b style='color:{colour[self.ok]}'>{escape(self.headline)}</b></p>"]
        lines += [f"<p>{escape(problem)}</p>" for problem in self.problems]
        if self.rows:
            lines.append("<table><tr>" + "".join(f"<th>{escape(name)}</th>" for name in COLUMNS) + "</tr>")
            for row in self.rows:
                name, *cells, verdict = row.cells()
                lines.append(
                    f"<tr><td style='text-align:left'>{escape(name)}</td>"
                    + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
                    + f"<td style='color:{colour[row.ok]}'>{escape(verdict)}</td></tr>"
                )
                lines += [
                    f"<tr><td colspan='{len(COLUMNS)}' style='text-align:left'>{escape(note)}</td></tr>"
                    for note in row.notes()
                ]
            lines.append("</table>")
        return "\n".join(lines)
