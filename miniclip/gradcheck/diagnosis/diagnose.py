"""What is probably wrong with a gradient that is wrong.

Most mistakes in a backward pass are of few kinds, and each leaves its mark: in the difference between what backward
claims, a, and what the forward pass gives, n, or in what it claims when it is asked again. Each test looks for one
mark, named in its docstring: it takes `Evidence` and gives (kind, sentence) or None. The first that fits is told, so
what the numbers prove stands before what they only suggest; (kind, sentence, PERHAPS) is told where no other fits.

    the numbers          factors.py, ratios.py, places.py, some_places.py, terms.py, norms.py, sums.py
    the layer, asked     jacobian.py (all of J)
    the forward pass     forgotten_step.py (one step of it changed)
"""

import re

import numpy as np

from ..point import NotAnalytic
from ..refusals import CannotCheck
from .factors import factor
from .forgotten_step import forgotten_step
from .jacobian import jacobian, mixing, paths, slope
from .norms import breaks, factor_outside, names, of_a_norm, one_sided_sums, statistics
from .places import exchanged, layout, shifted, turned_weight
from .ratios import known_factor, ratio
from .some_places import few_numbers, some_indices
from .sums import overwritten, spread, written_to_one, wrong_sum
from .terms import clipped, products, regulariser, shortcut


def diagnose(e):
    """(kind, sentence) of the first test that fits, or "unknown" and how alike a and n are."""
    if not e.a.size:
        return "unknown", "every entry that was looked at is at a kink; move the point a little."
    vague = None
    for test in TESTS:
        try:
            answer = test(e)
        except (CannotCheck, NotAnalytic):  # the layer refuses what the test asks of it
            continue
        if answer and answer[2:]:
            vague = vague or answer[:2]
        elif answer:
            return answer
    if vague:
        return vague
    lengths = np.sqrt((e.a @ e.a) * (e.n @ e.n))
    cosine = float(e.a @ e.n / lengths) if lengths else 0.0
    similar = "almost right" if cosine > 0.99 else "partly right" if cosine > 0.5 else "unlike the truth"
    axes = breaks(e.claimed, e.found) if e.whole and e.claimed.ndim else None
    more = f" It does not sum to 0 over {names(axes)}, as the truth does." if axes else ""
    return "unknown", f"a term is missing or wrong; as a whole it is {similar} (cosine {cosine:.3f}).{more}"


def precision(e):
    """a = n to CLOSE, in most places not better."""
    if not e.near or (np.abs(e.a - e.n) > e.threshold).mean() < 0.3:
        return None
    digits = int(-np.log10(max(np.abs(e.a - e.n).max() / e.size, 1e-17)))
    causes = "a constant was rounded, float32 stands somewhere, or an ε is in the forward pass alone"
    return "precision", f"it is right to {digits} digits: perhaps {causes}."


def nothing(e):
    """a = 0, or n = 0."""
    if not e.a.any():
        return "never accumulated", "it is 0 everywhere: never computed, or computed and never added up."
    if np.abs(e.n).max() <= 1e-9 * e.size:
        cause = "a clip, a mask, a stopped gradient or a norm that takes it away stands in the forward pass"
        return "clip", f"the output does not depend on {e.name} here: perhaps {cause}, and backward does not know it."
    return None


def cotangent(e):
    """Backward of a sum of two cotangents is not the sum of both. (Of one times a number it is: see the contract.)"""
    if e.is_loss:
        return None
    rng = np.random.default_rng(5)
    one, two = rng.standard_normal((2, *e.cotangent.shape))
    parts, whole = e.pull(one) + e.pull(two), e.pull(one + two)
    if np.abs(parts - whole).max() <= 1e-3 * max(np.abs(parts).max(), np.abs(whole).max()):
        return None
    cause = "perhaps a mask is of dy's own sign, dy > 0, where it must be of the forward pass"
    return "mask", f"backward of a sum dy₁ + dy₂ is not the sum of both: {cause}."


TESTS = (
    precision, nothing, cotangent, factor, layout, exchanged, shortcut, regulariser, clipped, slope, shifted,
    statistics, wrong_sum, written_to_one, some_indices, products, factor_outside, forgotten_step, turned_weight,
    known_factor, jacobian, overwritten, one_sided_sums, mixing, few_numbers, spread, paths, ratio, of_a_norm,
)  # fmt: skip


def summarise(rows):
    """One sentence where arrays that are wrong are wrong in the same way; "" where they are not.

    rows: those of a report, or of these the ones that are WRONG; their `.kind`, `.why` and `.name` are read.
    """
    wrong = [row for row in rows if row.verdict == "WRONG"]
    if len(wrong) < 2 or wrong[0].kind in ("", "unknown") or len({row.kind for row in wrong}) > 1:
        return ""
    said = set()
    for row in wrong:  # the name of the array is another each time, but not in code that is quoted
        name = rf"`[^`]*`|(?<![\w.]){re.escape(row.name)}(?!\w)"
        said.add(re.sub(name, lambda match: match[0] if match[0][0] == "`" else "…", row.why))
    factors = {(re.match(r"it is (\S+) times what it should be", row.why) or [None, None])[1] for row in wrong}
    if len(factors) == 1 and None not in factors:
        how = f"{factors.pop()} times what they should be"
    elif len(said) == 1:
        how = "wrong in the same way"
    elif wrong[0].kind not in ALONE:
        how = f"wrong in the same way ({wrong[0].kind})"
    else:
        return ""
    names, number = [row.name for row in wrong], {2: "both", 3: "all three"}.get(len(wrong), f"all {len(wrong)}")
    listed = f"{', '.join(names[:4])} …" if len(names) > 5 else f"{', '.join(names[:-1])} and {names[-1]}"
    cause = "probably one fault above them all, as in the loss or the first step of backward"
    return f"The gradients of {listed} are {number} {how}: {cause}."


ALONE = ("factor", "some indices", "missing term", "slope", "N", "1/N")  # of these, two need not have one cause
