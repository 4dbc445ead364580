"""The command `python -m miniclip gradcheck homework.py::batchnorm`: functions in a file of anybody's.

For graders: with --json, what the user's code prints goes to standard error; the exit status is 0 only where every
gradient that was asked for has been shown to be right, also where the user's code says sys.exit(0).
"""

import inspect
import json
import sys
from contextlib import nullcontext, redirect_stdout

from .check import check
from .contract import Problem
from .conventions import find_functions
from .homework_file import HomeworkFile
from .homework_inputs import (
    bind,
    call_theirs,
    draw_shapes,
    load_arrays,
    make_inputs,
    required,
    signature_of,
    takes_nothing,
)
from .refusals import CannotCheck
from .report import Report
from .tracebacks import format_own

FOR_ONE = ("inputs", "shape", "backward", "gradient")  # options that make sense for one function only


def run_homework(options):
    """Check what `options.targets` names, and print. -> exit status

    options: targets, ["homework.py::batchnorm", "homework.py"]; inputs, shape, backward, gradient, wrt, exclude,
    method, dtype, seed, json. The status is 0, or 1 where a gradient is wrong or could not be shown to be right, or 2
    where something could not be run at all. Raises ValueError, one sentence, for bad use.
    """
    if options.layer or options.plot:
        raise ValueError("--layer and --plot are for the layers of the library: say either these or files.")
    with redirect_stdout(sys.stderr) if options.json else nullcontext():
        found = check_targets(options)
    errors = [error for _, error in found if isinstance(error, CannotCheck)]
    ok = all(not isinstance(report, CannotCheck) and report.ok for _, report in found)
    if options.json:
        whole = {"dtype": options.dtype, "seed": options.seed, "ok": ok}
        whole |= {"error": str(errors[0])} if errors else {}
        print(json.dumps(whole | {"reports": [to_json(name, report) for name, report in found]}, indent=2))
    elif len(found) > 1:
        print_tables(found)
    return 2 if errors else int(not ok)


def check_targets(options):
    """[(name, its `Report` or the CannotCheck)] of all targets, printed one by one as they are ready."""
    targets, failed = find_targets(options.targets)
    methods = options.method or ["auto"]
    many = len(targets) > 1
    for flag in FOR_ONE:
        if many and getattr(options, flag):
            raise ValueError(f"--{flag} is for one function: name it, homework.py::function.")
    found = list(failed.items())
    for file, name in targets:
        for method in methods:
            report = checked(file, name, method, options)
            found.append((name, report))
            if isinstance(report, CannotCheck):
                show_error(report)
            elif not options.json:
                print(report.headline if many or len(methods) > 1 else report, flush=True)
    for file in {file: None for file, _ in targets if str(file.path) in options.targets}:
        if names := file.without_inputs():
            print(f"Not checked, for they have no inputs: {', '.join(names)}.")
    return found


def find_targets(texts):
    """["homework.py::batchnorm", "homework.py"] -> [(file, name)], {text: CannotCheck} for files that fail."""
    files, targets, failed = {}, [], {}
    for text in texts:
        path, _, name = text.partition("::")
        try:
            file = files[path] = files.get(path) or HomeworkFile(path)
        except CannotCheck as error:
            if error.__cause__ is None:
                raise
            show_error(error)
            failed[name or path] = error
            continue
        names = [file.full_name(name)] if name else file.checkable()
        if not names:
            raise CannotCheck(
                f"{path} has nothing that can be checked by itself: write softmax_inputs(rng) beside softmax, or say "
                f"which and how large, {path}::softmax --shape x=4x5."
            )
        targets += [(file, name) for name in names]
    return targets, failed


def checked(file, name, method, options):
    """The `Report` on one function, or CannotCheck with the user's exception as its cause."""
    try:
        report = check_one(file, name, method, options)
    except CannotCheck as error:
        return error
    except ValueError as error:  # an option that does not fit, as a name in --wrt
        return CannotCheck(str(error))
    except (Exception, SystemExit) as error:  # what user's code may still raise, and what must not end a grader's run
        failure = CannotCheck(f"{name} could not be checked: {type(error).__name__}: {error}")
        failure.__cause__ = error
        return failure
    report.function = name
    return report


def check_one(file, name, method, options):
    """The `Report` on one function of a file."""
    how = {"method": method, "dtype": options.dtype, "cotangent_seed": options.seed}
    how |= {"wrt": listed(options.wrt) or None, "exclude": listed(options.exclude)}
    how |= {word: file[getattr(options, word)] for word in ("backward", "gradient") if getattr(options, word)}
    target = file[name]
    given = given_inputs(file, name, options)
    if given is None and inspect.isfunction(target) and takes_nothing(target):
        try:
            result = call_theirs(name, target)
        except CannotCheck as error:
            if not isinstance(error.__cause__, AssertionError):
                raise
            return Report(name, method, problems=[Problem(error.__cause__)])
        if isinstance(result, Report):
            return result
        if not isinstance(result, (tuple, list)) or not result or not callable(result[0]):
            raise CannotCheck(f"{name} takes nothing, so it is to return a Report, check(f, x, …), or (f, x, …).")
        target, *args = result
        return check(target, *args, **how)
    if given is None:
        raise CannotCheck(no_inputs(file, name))
    args, kwargs = given
    if not options.backward and not options.gradient:
        how["backward"] = file.backward(name, args, kwargs)
    return check(target, *args, **how, **kwargs)


def given_inputs(file, name, options):
    """args, kwargs by --inputs or --shape, or else as the file has them; None where there are none."""
    if options.inputs and options.shape:
        raise CannotCheck("--inputs and --shape both say what the arguments are: choose one.")
    if options.shape:
        return bind(name, file[name], draw_shapes(options.shape, options.seed), by_name=True)
    if not options.inputs:
        return file.inputs(name, options.seed)
    path, _, maker = options.inputs.partition("::")
    if not maker:
        return bind(name, file[name], load_arrays(path))
    maker_file = file if path == str(file.path) else HomeworkFile(path)
    return bind(name, file[name], make_inputs(maker, maker_file[maker], options.seed))


def no_inputs(file, name):
    """What to do where there are no inputs: a sentence."""
    signature = signature_of(find_functions(file[name]).forward)
    names = required(signature) if signature else []
    shapes = " ".join(f"--shape {parameter}=4x5" for parameter in names) or "--shape x=4x5"
    return (
        f"there are no inputs for {name}: write {name}_inputs(rng) into {file.path.name}, which returns "
        f"({', '.join(names) or 'x'}), or say --inputs FILE.npz, or {shapes}, with the shapes that fit."
    )


def listed(words):
    """["w,b", "x"] -> ["w", "b", "x"]."""
    return [part.strip() for word in words or () for part in word.split(",") if part.strip()]


# ------------------------------------------------------------------------------------------ what is printed


def show_error(error):
    """The sentence, and beneath it the exception of the user's code, on standard error."""
    print(f"miniclip: {error}", file=sys.stderr)
    if error.__cause__ is not None:
        print(format_own(error.__cause__), file=sys.stderr)


def print_tables(found):
    """The tables of what is not right, and how many that are."""
    reports = [report for _, report in found if isinstance(report, Report)]
    for report in reports:
        if not report.ok:
            print(f"\n{report}")
    wrong = len(found) - sum(report.ok for report in reports)
    print(f"\nNot right: {wrong} of {len(found)} checks." if wrong else f"\nAll {len(found)} checks are right.")


def to_json(name, report):
    """The report as JSON has it, also where there is none."""
    if isinstance(report, Report):
        return report.to_json()
    return {"function": name, "ok": False, "verdict": "could not be checked", "error": str(report)}
