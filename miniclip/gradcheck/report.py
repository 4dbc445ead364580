"""What a gradient check found: a row for each array, to print, to show in a notebook, or to save as JSON.

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
    analytic: float  # largest absolute value that backward gives, where looked at; by "adjoint", that of ⟨Jᵀ c, u⟩
    numeric: float  # the same of what the forward pass gives; by "adjoint", of ⟨c, J u⟩
    error: float  # worst relative error
    scale: float = np.nan  # α
    cosine: float = np.nan
    index: tuple = ()  # where the error is worst
    claimed: float = np.nan  # there, what backward gives
    found: float = np.nan  # there, what the forward pass gives
    verdict: str = "ok"  # ok, zero (truly, on both sides), kink, unsafe or WRONG
    kind: str = ""  # of the diagnosis (see diagnosis.py)
    why: str = ""  # its sentence

    @property
    def ok(self):
        return self.verdict in ("ok", "zero", "kink")

    def cells(self):
        """The row as text, in the order of COLUMNS."""
        shape = " × ".join(map(str, self.shape)) or "number"
        sizes = [f"{size:.1e}" for size in (self.analytic, self.numeric, self.error)]
        likeness = [text.replace("nan", "–") for text in (f"{self.scale:.6g}", f"{self.cosine:.6f}")]
        return (self.name, shape, *sizes, *likeness, str(list(self.index)) if self.index else "", self.verdict)

    def notes(self):
        """Sentences about what is not simply right."""
        wrong = self.verdict == "WRONG"
        if wrong:
            yield f"WRONG: {self.name}{list(self.index) or ''} is {self.claimed}, should be {self.found}."
        if self.why:
            yield f"{'Probably' if wrong else 'Note'}: {self.why}"


@dataclass
class Report:
    """The verdict: `.ok`, `.max_error`, a row for each array, and the problems of the contract. Print it."""

    function: str
    method: str
    tolerance: float
    problems: list = field(default_factory=list)
    rows: list = field(default_factory=list)

    @property
    def max_error(self):
        """The worst relative error of all arrays; infinite where the contract is broken."""
        return float(np.max([row.error for row in self.rows])) if self.rows and not self.problems else np.inf

    @property
    def ok(self):
        return not self.problems and self.max_error <= self.tolerance and all(row.ok for row in self.rows)

    @property
    def headline(self):
        """One line: what was checked, how, and whether it is right."""
        bad = {row.verdict for row in self.rows if not row.ok}
        verdict = "ok" if self.ok else "unsafe" if bad == {"unsafe"} else "WRONG"
        worst = f"worst error {self.max_error:.1e} (at most {self.tolerance:.0e})"
        return f"{self.function}: {self.method}, {verdict}, {worst}"

    def to_json(self):
        """The report as a dict that JSON can hold; NaN and infinity are None."""

        def plain(items):
            return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in items}

        return asdict(self, dict_factory=plain) | plain([("ok", self.ok), ("max_error", self.max_error)])

    def __str__(self):
        lines = [self.headline, *(f"  {problem}" for problem in self.problems)]
        table = [COLUMNS, *(row.cells() for row in self.rows)] if self.rows else []
        widths = [max(map(len, column)) for column in zip(*table)]
        for row, (name, *numbers, verdict) in zip([None, *self.rows], table):
            numbers = [number.rjust(width) for number, width in zip(numbers, widths[1:])]
            lines.append("  " + "  ".join([name.ljust(widths[0]), *numbers, verdict]))
            lines += [f"    {note}" for note in row.notes()] if row else []
        return "\n".join(lines)

    def _repr_html_(self):
        headline, _, rest = escape(str(self)).partition("\n")
        colour = "#1a7f37" if self.ok else "#b3261e"
        return f"<pre style='white-space: pre-wrap'><b style='color: {colour}'>{headline}</b>\n{rest}</pre>"
