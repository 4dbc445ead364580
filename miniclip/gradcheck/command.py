"""The command `python -m miniclip gradcheck`: every backward pass of the library against its forward pass."""

import json
import math
import time

from threadpoolctl import threadpool_limits

from .cases import check_layer, draw_case, find_cases
from .check import v_curve


def run_command(options):
    """Check and print. options: layer, method, dtype, seed, plot, json. -> exit status: 1 where a gradient is wrong.

    Raises ValueError for a seed below 0, a layer that is not there, or a picture that cannot be drawn.
    """
    started = time.perf_counter()
    if options.seed < 0:
        raise ValueError(f"--seed is {options.seed}; it must be at least 0.")
    names = find_cases(options.layer or ["*"])
    methods = options.method or ["complex", "central", "adjoint"]
    if options.plot:
        plot_v_curve(names, options.seed, options.plot)
    say = (lambda *words, **how: None) if options.json else print
    say(
        f"Backward passes in {options.dtype} at random parameters with random cotangents (seed {options.seed}): "
        f"the worst relative error by each method.\n\n{'':30} {'arrays':>6} {'numbers':>8}"
        + "".join(f" {method:>10}" for method in methods)
    )
    reports = []
    for name in names:
        with threadpool_limits(limits=1):  # the matrices are tiny: threads would only wait for each other
            found = [check_layer(name, options.seed, method=method, dtype=options.dtype) for method in methods]
        reports += found
        numbers = sum(math.prod(row.shape) for row in found[0].rows)
        errors = "".join(f" {report.max_error:10.1e}" for report in found)
        verdict = "ok" if all(report.ok for report in found) else "WRONG"
        say(f"{name:30} {len(found[0].rows):6} {numbers:8}{errors}   {verdict}", flush=True)
    wrong = [report for report in reports if not report.ok]
    if options.json:
        found = {"dtype": options.dtype, "seed": options.seed, "ok": not wrong}
        print(json.dumps(found | {"reports": [report.to_json() for report in reports]}, indent=2))
    for report in reports if options.layer else wrong:
        say(f"\n{report}")
    worst = [max((r for r in reports if r.method == method), key=lambda r: r.max_error) for method in methods]
    limits = [f"{r.method} {r.max_error:.1e} in {r.function} (at most {r.tolerance:.0e})" for r in worst]
    say(f"\nworst error: {', '.join(limits)}")
    right = f"All {len(reports)} checks are right, in {time.perf_counter() - started:.0f} s."
    say(f"{len(wrong)} of {len(reports)} checks are wrong." if wrong else right)
    return int(bool(wrong))


def plot_v_curve(names, seed, path):
    """Draw the error of one layer's derivatives against their step into a picture file. Raises ValueError."""
    from ..plots import v_curve as draw

    if len(names) != 1:
        raise ValueError("--plot draws one layer: say with --layer which.")
    f, args, options = draw_case(names[0], seed)
    figure = draw(v_curve(f, *args, exclude=options.get("exclude", ()), seed=seed), f"Derivatives of {names[0]}")
    try:
        figure.savefig(path)
    except ValueError as error:  # a file type that matplotlib cannot write
        raise ValueError(f"the picture cannot be written to {path}: {error}") from None
