"""Grading one function: stage after stage, to the first at which it fails, with one sentence and the next hint.

The gradients are judged by gradcheck.check. Whether the function runs in this process or, taken from a notebook, in
another (see process.py), makes no difference here.
"""

import copy
import inspect
from fnmatch import fnmatchcase as fnmatch

import numpy as np

from ..gradcheck import CannotCheck, check
from ..tree import flatten
from .beside import differs_inside, gradients, hides_at, is_float, known_mistake, pull
from .compare import differs
from .exercise import find_exercise
from .hints import next_hint
from .library import Watch
from .points import describe, draw_points
from .raised import said, said_inside
from .stop import UNKNOWN, Stop, stop_at, unjudged
from .verdict import Verdict
from .written import is_unwritten

NOT_WRITTEN = "not written yet; the library's stands in."
ENTRIES = 120  # that are looked at one by one, of all arrays together; each array is also looked at as a whole
DIAGNOSES = 3  # points that are looked at for a mistake to be named


def grade(function, seed=0):
    """Look at a student's function, the answer to an exercise -> `Verdict`, which says what is wrong and gives a hint.

    Each call that fails at the same place opens the next hint. seed: decides the points. Raises ValueError for a
    function that answers no exercise.
    """
    exercise = find_exercise(getattr(function, "exercise", None) or getattr(function, "__name__", str(function)))
    if getattr(function, "is_stand_in", False) or is_unwritten(function):
        return Verdict(exercise.name, "written", exercise.points, NOT_WRITTEN)
    try:
        with np.errstate(all="ignore"):
            return Verdict(exercise.name, "right", exercise.points, Grading(exercise, function, seed).run())
    except Stop as stop:
        verdict = Verdict(exercise.name, stop.stage, exercise.points, stop.sentence, stop.kind, lesson=stop.lesson)
        verdict.report, verdict.trap = stop.report, stop.trap
    if found := next_hint(exercise, verdict.stage, verdict.kind, verdict.trap):
        verdict.hint = "Hint {} of {}: {}".format(*found)
    return verdict


class Grading:
    """One function at the points of its exercise. `run` gives the sentence of praise, or raises `Stop`."""

    def __init__(self, exercise, function, seed):
        self.exercise, self.function, self.seed = exercise, function, seed
        self.names = exercise.parameters
        points = draw_points(exercise, seed)
        self.points = {name: args for name, args in points.items() if name not in exercise.traps}
        self.traps = {name: args for name, args in points.items() if name in exercise.traps}
        self.digits = 15

    def run(self):
        """All stages, one after the other. Raises Stop at the first that fails."""
        self.check_signature()
        self.check_whose()
        for args in self.points.values():
            self.check_forward("forward", args)
        if self.exercise.is_layer:
            if self.exercise.has_backward:
                self.check_returns(next(iter(self.points.values())))
            self.check_gradients("gradient", self.points)
        for name, args in self.traps.items():
            self.check_forward("traps", args, name)
        if self.exercise.is_layer:
            self.check_gradients("traps", self.traps)
        if self.exercise.inside:
            self.check_inside(self.exercise.inside)
        return self.praise()

    def praise(self):
        """The sentence on a right answer: at how many points, and to how many digits."""
        traps = f" and {len(self.traps)} trap{'s' * (len(self.traps) > 1)}" if self.traps else ""
        digits = f", its gradients to {self.digits} digits" if self.exercise.is_layer else ""
        inside = f", and inside: {self.exercise.inside}" if self.exercise.inside else ""
        return f"right, at {len(self.points)} points{traps}{digits}{inside}."

    # -------------------------------------------------------------------------------------- written, runs

    def check_signature(self):
        """The parameters have the names of the reference's, in that order; more may follow that need not be given.

        The last ones, that no point gives, may be left out.
        """
        given = list(inspect.signature(self.function).parameters.values())
        least = max(len(args) for args in (self.points | self.traps).values())
        first, more = given[:least], given[least:]
        starred = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        must = [p for p in more if p.default is p.empty and p.kind not in starred]
        if [p.name for p in first] != self.names[:least] or must:
            takes = inspect.signature(self.exercise.reference)
            raise Stop("runs", f"it takes ({', '.join(p.name for p in given)}), and should take {takes}.")

    def check_whose(self):
        """Its own work: neither the library's function nor one that calls it."""
        args = next(iter(self.points.values()))
        watched = (self.exercise.reference, *self.exercise.forbidden)
        if inspect.unwrap(self.function) in map(inspect.unwrap, watched):
            raise Stop("written", "this is the library's own function: write yours.")
        look = getattr(self.function, "library_used", None)
        if look is None:
            with Watch(watched) as watch:
                self.call_all(args)
            used = watch.used
        else:
            used = look(watched, lambda: self.call_all(args))
        if used:
            raise Stop("written", f"it calls the library's {', '.join(sorted(used))}: write it yourself.")

    def call_all(self, args):
        """Forward and backward once, for what they call; what they raise is told later."""
        try:
            result = self.function(*copy.deepcopy(args))
            if self.exercise.is_layer:
                pull(result[-1], result[0])
        except (Exception, SystemExit):
            pass

    def call(self, stage, args, trap=""):
        """What the function returns. `Stop` where it raises, with the shapes it was given."""
        try:
            return self.function(*copy.deepcopy(args))
        except NotImplementedError:
            raise Stop("written", NOT_WRITTEN) from None
        except (Exception, SystemExit) as error:
            stage = "runs" if stage == "forward" else stage
            raise Stop(stage, f"it raised {said(error)}, {self.at(args, trap)}.", trap=trap) from None

    def at(self, args, trap=""):
        """Where: the trap's name and the shapes."""
        return f"at {trap + ': ' if trap else ''}{describe(self.names, args)}"

    # -------------------------------------------------------------------------------------- forward

    def check_forward(self, stage, args, trap=""):
        """It returns what the reference returns; of a layer, output and backward."""
        found = self.call(stage, args, trap)
        wanted = self.exercise.reference(*copy.deepcopy(args))
        if self.exercise.is_layer:
            if found is not None and not (isinstance(found, (tuple, list)) and len(found) == 2 and callable(found[1])):
                raise Stop("runs", "it should return two things: the output, and backward, a function.")
            found, wanted = found and found[0], wanted[0] if self.exercise.has_backward else wanted
        if problem := differs(found, wanted, self.exercise.tolerance):
            at_trap = [args] if trap else []  # many a mistake is right at the other points
            mistake = known_mistake(self.exercise, self.function, [*at_trap, *self.points.values()])
            kind, named = (mistake.kind, f" Probably: {mistake.sentence}") if mistake else ("", "")
            raise Stop(stage, f"{problem}, {self.at(args, trap)}.{named}".replace("?,", "?"), kind, trap=trap)

    # -------------------------------------------------------------------------------------- backward

    def check_returns(self, args):
        """Backward gives what the library's gives, in the same order and of the same shapes."""
        y, backward = self.call("contract", args)
        right = self.exercise.reference(*copy.deepcopy(args))[1]
        wanted = pull(right, y)
        if inspect.signature(right).parameters and not inspect.signature(backward).parameters:
            raise Stop("contract", "its backward takes nothing, and should take dy, the gradient of the output.")
        try:
            found = pull(backward, y)
        except NotImplementedError:
            raise Stop("written", NOT_WRITTEN) from None
        except (Exception, SystemExit) as error:
            raise Stop("contract", f"its backward raised {said(error)}, {self.at(args)}.") from None
        if found is None:
            raise Stop("contract", "its backward returned nothing (None): does its last line say return?")
        if problem := differs(found, wanted, np.inf, "what backward returns"):
            raise Stop("contract", f"{problem}, {self.at(args)}.")

    def check_gradients(self, stage, points):
        """gradcheck's verdict at each of the points; of those that fail, the one where the mistake can be named."""
        failed = []
        for number, (name, args) in enumerate(points.items()):
            trap = name if stage == "traps" else ""
            if trap in self.exercise.forward_only:
                continue
            leaves = self.differentiated(args)
            if not all(np.isfinite(leaf).all() for leaf in leaves):
                self.check_beside_reference("traps", args, trap)  # no slope can be taken there
                continue
            try:
                options = {"cotangent_seed": self.seed + number, "entries": min(32, 4 + ENTRIES // len(leaves))}
                report = check(self.function, *args, exclude=self.exercise.exclude, **options)
            except CannotCheck as error:
                raise Stop("contract", f"{str(error).rstrip('.')}, {self.at(args, trap)}.") from None
            if report.ok:
                self.digits = min([self.digits, *(row.digits for row in report.rows if row.digits is not None)])
            elif why := unjudged(report):
                self.check_beside_reference(stage, args, trap, why)
            else:
                failed.append((stop_at(stage, report, self.at(args, trap), trap), args))
                if failed[-1][0].kind not in UNKNOWN or len(failed) == DIAGNOSES:
                    break
        if failed:
            stop, args = next((one for one in failed if one[0].kind not in UNKNOWN), failed[0])
            if hidden := hides_at(self.exercise, self.function, args):
                stop.lesson = f"At {' and at '.join(hidden)} this mistake does not show: never check there alone."
            raise stop

    def differentiated(self, args):
        """The arrays that have a gradient; a mask, which may hold −inf, has none."""
        named = flatten(dict(zip(self.names, args)))
        excluded = [name for name in named if any(fnmatch(name, pattern) for pattern in self.exercise.exclude)]
        return [leaf for name, leaf in named.items() if is_float(leaf) and name not in excluded]

    def check_beside_reference(self, stage, args, trap, why=""):
        """The gradients where no slope can be taken: an argument is infinite, as a masked score, or `why` says so."""
        if not self.exercise.has_backward:
            if why:
                raise Stop(stage, f"its gradient cannot be judged {self.at(args, trap)}: {why}", trap=trap)
            return
        self.call(stage, args, trap)
        found, wanted = (gradients(f, args, self.seed) for f in (self.function, self.exercise.reference))
        if problem := differs(found, wanted, 1e-9, "the gradient"):
            raise Stop(stage, f"{problem}, {self.at(args, trap)}.", trap=trap)

    # -------------------------------------------------------------------------------------- inside

    def check_inside(self, case):
        """In the library's place, inside a larger function."""
        self.function.exercise = self.exercise.name
        try:
            problem = differs_inside(case, self.function, self.seed)
        except (Exception, SystemExit) as error:
            problem = said_inside(self.function, error)
        if problem:
            raise Stop("inside", f"inside {case}, {problem}.")
