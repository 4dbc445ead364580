"""The command `python -m miniclip gradcheck homework.py::batchnorm`: functions in a file of anybody's.

For graders: with --json, what the user's code prints goes to standard error; the exit status is 0 only where every
gradient that was asked for has been shown to be right, also where the user's code says sys.exit(0).
"""

import json
import sys
from contextlib import nullcontext, redirect_stdout

from .check import check
from .contract import Problem
from .conventions import find_functions, signature_of
from .homework_file import HomeworkFile
from .homework_inputs import bind, call_theirs, draw_shapes, load_arrays, make_inputs, required, takes_nothing
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
    errors = [str(error) for _, error in found if error]
    wrong = [report for report, _ in found if not report.ok]
    if options.json:
        whole = {"dtype": options.dtype, "seed": options.seed, "ok": not wrong}
        whole |= {"error": errors[0]} if errors else {}
        reports = [report.to_json() | ({"error": str(error)} if error else {}) for report, error in found]
        print(json.dumps(whole | {"reports": reports}, indent=2))
    elif len(found) > 1:
        for report, error in found:
            if not report.ok and not error:
                print(f"\n{report}")
        right = f"All {len(found)} checks are right."
        print(f"\nNot right: {len(wrong)} of {len(found)} checks." if wrong else f"\n{right}")
    return 2 if errors else int(bool(wrong))


def check_targets(options):
    """[(`Report`, CannotCheck or None)] of every target by every method, printed one by one as they are ready."""
    targets, found = find_targets(options.targets)
    for flag in FOR_ONE:
        if len(targets) > 1 and getattr(options, flag):
            raise ValueError(f"--{flag} is for one function: name it, homework.py::function.")
    methods = options.method or ["auto"]
    for file, name in targets:
        for method in methods:
            report, error = check_target(file, name, method, options)
            found.append((report, error))
            if not error and not options.json:
                print(report.headline if len(targets) * len(methods) > 1 else report, flush=True)
    for file in dict.fromkeys(file for file, _ in targets if str(file.path) in options.targets):
        if names := file.without_inputs():
            print(f"Not checked, for they have no inputs: {', '.join(names)}.")
    return found


def find_targets(texts):
    """["homework.py::batchnorm", "homework.py"] -> [(file, name)], and what `failed` gives for files that fail."""
    files, targets, failures = {}, [], []
    for text in texts:
        path, _, name = text.partition("::")
        try:
            file = files[path] = files.get(path) or HomeworkFile(path)
        except CannotCheck as error:
            if error.__cause__ is None:
                raise
            failures.append(failed(name or path, error))
            continue
        names = [file.full_name(name)] if name else file.checkable()
        if not names:
            raise CannotCheck(
                f"{path} has nothing that can be checked by itself: write softmax_inputs(rng) beside softmax, or say "
                f"which and how large, {path}::softmax --shape x=4x5."
            )
        targets += [(file, name) for name in names]
    return targets, failures


def failed(name, error):
    """The report on what could not be run, and why, which is printed with the exception of the user's beneath it."""
    about = "" if name in str(error) else f"{name}: "
    print(f"miniclip: {about}{error}", file=sys.stderr)
    if error.__cause__ is not None:
        print(format_own(error.__cause__), file=sys.stderr)
    return Report(name, "", problems=[Problem.unchecked(error)]), error


def check_target(file, name, method, options):
    """The `Report` on one function of a file, and CannotCheck where it could not be run, or None."""
    try:
        report = call_theirs(name, check_one, file, name, method, options)  # a grader's run survives what it raises
    except CannotCheck as error:
        return failed(name, error)
    report.function = name
    return report, None


def check_one(file, name, method, options):
    """The `Report` on one function of a file. Raises CannotCheck."""
    how = {"method": method, "dtype": options.dtype, "cotangent_seed": options.seed}
    how |= {"wrt": listed(options.wrt) or None, "exclude": listed(options.exclude)}
    slope = {word: file[getattr(options, word)] for word in ("backward", "gradient") if getattr(options, word)}
    target = file[name]
    given = given_inputs(file, name, options)
    if given is not None:
        args, kwargs = given
        return check(target, *args, **how, **(slope or file.slope(name, args, kwargs)), **kwargs)
    if not takes_nothing(target):
        raise CannotCheck(no_inputs(file, name))
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
    return check(*result, **how, **slope)


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
    names = required(signature_of(find_functions(file[name]).forward)) or ["x"]
    shapes = " ".join(f"--shape {parameter}=4x5" for parameter in names)
    maker = name.replace(".", "_")
    return (
        f"there are no inputs for {name}: write {maker}_inputs(rng) into {file.path.name}, which returns "
        f"({', '.join(names)}), or say --inputs FILE.npz, or {shapes}, with the shapes that fit."
    )


def listed(words):
    """["w,b", "x"] -> ["w", "b", "x"]."""
    return [part.strip() for word in words or () for part in word.split(",") if part.strip()]
