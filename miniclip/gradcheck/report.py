"""What a gradient check found: a row for each array, to print, to show in a notebook, or to save as JSON.

relative error   the largest |analytic − numeric| over the largest of either, entry by entry
α                the number by which numeric is best multiplied to give analytic: 1 when all is well,
                 and 2, −1 or the batch size when a factor is wrong
cos              the cosine between the two: 1 when only a factor is wrong
digits           how many were proven: of the difference, and of the slope itself where it is known to fewer
"""

from dataclasses import asdict, dataclass, field, replace

import numpy as np

from .html import Picture, report_html

COLUMNS = ("array", "shape", "|analytic|", "|numeric|", "rel. error", "digits", "α", "cos", "worst at", "verdict")


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
    doubt: float = 0.0  # relative error of the slopes themselves
    method: str = ""  # by which it was checked
    tolerance: float = np.nan
    index: tuple = ()  # where the error is worst
    claimed: float = np.nan  # there, what backward gives
    found: float = np.nan  # there, what the forward pass gives
    verdict: str = "ok"  # ok, zero (truly, on both sides), kink, no gradient (None), unchecked or WRONG
    kind: str = ""  # of the diagnosis (see diagnosis.py)
    why: str = ""  # its sentence
    # Claimed beside true, where it was looked at closely; for a notebook, not for JSON.
    picture: Picture | None = field(default=None, repr=False, compare=False)

    @classmethod
    def without_gradient(cls, name, shape):
        """The row of an array for which backward gives None."""
        why = f"backward gives None: {name} is taken as having no gradient, and was not checked."
        return cls(name, shape, np.nan, np.nan, 0.0, verdict="no gradient", why=why)

    def at_kink(self, beside):
        """This row where the gradient is missed at a kink, and right beside it, as these rows have it."""
        why = (
            f"{self.name} is at a kink here, or within a step of one: the slope jumps, and many gradients are right. "
            "On both sides of it backward is right."
        )
        worst = max(beside, key=lambda row: row.error)
        doubt = max(row.doubt for row in beside)
        return replace(worst, doubt=doubt, index=self.index, verdict="kink", why=why)

    @property
    def ok(self):
        return self.verdict in ("ok", "zero", "kink", "no gradient")

    @property
    def digits(self):
        """How many digits of the gradient were proven, or None."""
        known = max(self.error, self.doubt)
        proven = self.ok and self.verdict != "no gradient"
        return int(-np.log10(max(known, np.finfo(float).eps))) if proven else None

    def cells(self):
        """The row as text, in the order of COLUMNS."""
        shape = " × ".join(map(str, self.shape)) or "number"
        sizes = [f"{size:.1e}".replace("nan", "–") for size in (self.analytic, self.numeric, self.error)]
        likeness = [text.replace("nan", "–") for text in (f"{self.scale:.6g}", f"{self.cosine:.6f}")]
        digits = "–" if self.digits is None else str(self.digits)
        where = str(list(self.index)) if self.index and self.verdict != "no gradient" else ""
        return (self.name, shape, *sizes, digits, *likeness, where, self.verdict)

    def notes(self):
        """Sentences about what is not simply right."""
        wrong = self.verdict == "WRONG"
        if wrong and np.isfinite(self.claimed):
            claimed, found = apart(self.claimed, self.found)
            yield f"WRONG: {self.name}{list(self.index) or ''} is {claimed}, should be {found}."
        elif wrong:
            yield f"WRONG: {self.name}, along a random direction through all its entries."
        if self.why:
            yield f"{'Probably' if wrong else 'Note'}: {self.why}"


def apart(a, b):
    """Two numbers with as many digits as it takes to tell them apart, four at least."""
    for digits in range(4, 18):
        if (texts := (f"{a:.{digits}g}", f"{b:.{digits}g}"))[0] != texts[1]:
            break
    return texts


@dataclass(repr=False)
class Report:
    """The verdict: `.ok`, `.max_error`, a row for each array, and the problems of the contract. Print it.

    It is true where all is right: `assert check(f, x)`.
    """

    function: str
    method: str
    rows: list = field(default_factory=list)
    problems: list = field(default_factory=list)  # of the contract, see contract.Problem
    notes: list = field(default_factory=list)
    summary: str = ""  # what is wrong with all arrays alike

    def __bool__(self):
        return self.ok

    @property
    def max_error(self):
        """The worst relative error of all arrays; infinite where the contract is broken or nothing was compared."""
        errors = [row.error for row in self.rows if row.verdict != "no gradient"]
        return float(np.max(errors)) if errors and not self.problems else np.inf

    @property
    def ok(self):
        return self.verdict == "ok"

    @property
    def tolerance(self):
        """The largest relative error that passes, of the arrays that were checked."""
        return max((row.tolerance for row in self.rows if row.method), default=np.nan)

    @property
    def verdict(self):
        """ok, WRONG, or could not be checked."""
        verdicts = {row.verdict for row in self.rows}
        if "WRONG" in verdicts or any(problem.wrong for problem in self.problems):
            return "WRONG"
        compared = any(row.method for row in self.rows)
        return "could not be checked" if self.problems or "unchecked" in verdicts or not compared else "ok"

    @property
    def headline(self):
        """One line: what was checked, how, whether it is right, and how well that is known."""
        start = f"{self.function}: {self.method}, {self.verdict}"
        if not np.isfinite(self.max_error):
            return start
        worst = f"worst error {self.max_error:.1e}"
        if self.ok:
            return f"{start}, {min(row.digits for row in self.rows if row.digits is not None)} digits proven, {worst}"
        return f"{start}, {worst} (at most {self.tolerance:.0e})"

    def to_json(self):
        """The report as a dict that JSON can hold; NaN and infinity are None."""

        def plain(items):
            shown = [(k, v) for k, v in items if k != "picture"]
            return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in shown}

        return asdict(self, dict_factory=plain) | plain(
            [("ok", self.ok), ("verdict", self.verdict), ("max_error", self.max_error)]
        )

    def __str__(self):
        lines = [self.headline, *(f"  {problem}" for problem in self.problems)]
        lines += [f"  {self.summary}"] if self.summary else []
        table = [COLUMNS, *(row.cells() for row in self.rows)] if self.rows else []
        widths = [max(map(len, column)) for column in zip(*table)]
        for row, (name, *numbers, verdict) in zip([None, *self.rows], table):
            numbers = [number.rjust(width) for number, width in zip(numbers, widths[1:])]
            lines.append("  " + "  ".join([name.ljust(widths[0]), *numbers, verdict]))
            lines += [f"    {note}" for note in row.notes()] if row else []
        return "\n".join([*lines, *(f"  Note: {note}" for note in self.notes)])

    __repr__ = __str__

    def _repr_html_(self):
        return report_html(self)
