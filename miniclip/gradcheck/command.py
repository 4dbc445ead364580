"""The command `python -m miniclip gradcheck`: every backward pass of the library against its forward pass.

With names of files it checks those instead (homework.py).
"""

import json
import math
import signal
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import active_children, get_context

from threadpoolctl import threadpool_limits

from ..backend import cpu_count
from ..tree import flatten
from .cases import check_layer, draw_case, find_cases
from .curve import v_curve
from .homework import run_homework

QUICK = 40  # leaves of a layer's arguments; checking it takes about a hundredth of a second for each
WORTH_PROCESSES = 300  # leaves times methods that take longer than starting processes


def run_command(options):
    """Check and print. options: targets, layer, method, dtype, seed, plot, json, and those of homework.py.

    -> exit status: 0 where all is right, 1 where a gradient is wrong or could not be checked, 2 where a file or a
    function of the user's failed. Raises ValueError or OSError with one sentence for bad use.
    """
    try:
        if options.seed < 0:
            raise ValueError(f"--seed is {options.seed}; it must be at least 0.")
        return run_homework(options) if options.targets else check_library(options)
    except (ValueError, OSError) as error:
        if options.json:
            print(json.dumps({"ok": False, "error": str(error)}))
        raise


def check_library(options):
    """Check the layers of the library and print a row for each -> exit status."""
    started = time.perf_counter()
    for flag in ("inputs", "shape", "backward", "gradient", "wrt", "exclude"):
        if getattr(options, flag):
            raise ValueError(f"--{flag} is for a function of yours: say which, homework.py::function.")
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
    for name, found in check_cases(names, methods, options.seed, options.dtype):
        reports += found
        numbers = sum(math.prod(row.shape) for row in found[0].rows)
        errors = "".join(f" {in_digits(report.max_error):>10}" for report in found)
        say(f"{name:30} {len(found[0].rows):6} {numbers:8}{errors}   {worst_verdict(found)}", flush=True)
    wrong = [report for report in reports if not report.ok]
    if options.json:
        found = {"dtype": options.dtype, "seed": options.seed, "ok": not wrong}
        print(json.dumps(found | {"reports": [report.to_json() for report in reports]}, indent=2))
    for report in reports if options.layer else wrong:
        say(f"\n{report}")
    worst = [max((r for r in reports if r.method == method), key=lambda r: r.max_error) for method in methods]
    say(
        "\nworst error: "
        + ", ".join(f"{r.method} {in_digits(r.max_error)} in {r.function} ({limit(r)})" for r in worst)
    )
    right = f"All {len(reports)} checks are right, in {time.perf_counter() - started:.0f} s."
    say(f"Not right: {len(wrong)} of {len(reports)} checks." if wrong else right)
    return int(bool(wrong))


def limit(report):
    """What a report allows: its tolerance, or where a difference proves less than that, what it proves."""
    row = max(report.rows, key=lambda row: row.error, default=None)
    allowed = report.tolerance if row is None or not row.ok else max(row.tolerance, row.doubt)
    return f"at most {allowed:.0e}"


def in_digits(error):
    """A relative error in two digits; a dash where nothing could be compared."""
    return f"{error:.1e}" if math.isfinite(error) else "–"


def worst_verdict(reports):
    """WRONG where one of them is, else "could not be checked" where one could not, else ok."""
    verdicts = {report.verdict for report in reports}
    return next(verdict for verdict in ("WRONG", "could not be checked", "ok") if verdict in verdicts)


# ------------------------------------------------------------------------------------------ many at once


def check_cases(names, methods, seed, dtype):
    """Yield (name, its reports by each method) in the order of names, from all cores where that is quicker."""
    leaves = {name: len(flatten(draw_case(name, seed)[1])) for name in names}
    if cpu_count() == 1 or sum(leaves.values()) * len(methods) < WORTH_PROCESSES:
        for name in names:
            yield name, [check_case(name, method, seed, dtype) for method in methods]
        return
    # What is quick comes first, to be printed at once; then the slowest, so that none is left for the end.
    quick = [name for name in names if leaves[name] <= QUICK]
    order = quick + sorted((name for name in names if leaves[name] > QUICK), key=lambda name: -leaves[name])
    pool = ProcessPoolExecutor(cpu_count(), mp_context=get_context("spawn"))
    finished = False
    try:
        with interrupts_ignored():
            tasks = {(n, method): pool.submit(check_case, n, method, seed, dtype) for n in order for method in methods}
        for name in names:
            yield name, [tasks[name, method].result() for method in methods]
        finished = True
    except BrokenProcessPool:
        raise OSError("one of the processes was ended from outside: is there enough memory?") from None
    finally:
        for process in () if finished else active_children():
            process.terminate()
        pool.shutdown(cancel_futures=True)


def check_case(name, method, seed, dtype):
    """The `Report` on one layer by one method, on one core."""
    with threadpool_limits(limits=1):  # the matrices are tiny: threads would only wait for each other
        return check_layer(name, seed, method=method, dtype=dtype)


@contextmanager
def interrupts_ignored():
    """Processes that are started in here do not hear Ctrl-C: the one that started them does, and ends them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


# ------------------------------------------------------------------------------------------ a picture


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
