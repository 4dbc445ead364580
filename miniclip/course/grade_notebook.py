"""Grading a notebook file: every exercise of it, each in a process of its own, judged in this one."""

from difflib import get_close_matches

from .exercise import VARIANTS, exercises_of, load
from .grade import NOT_WRITTEN, grade
from .notebook import read_notebook
from .process import Ended, StudentProcess
from .raised import said
from .variants import variants_of
from .verdict import Verdict


def grade_notebook(path, seed=0, student=None):
    """A notebook, solved as far as it is -> its name in the course, [`Verdict`] of every exercise.

    Nothing of it runs in this process. seed: decides the points; student: whose variants are asked for, by default
    those of the student that the notebook names. Raises NoNotebook, a ValueError, for a file that is no notebook of
    the course.
    """
    notebook = read_notebook(path)
    name, exercises = notebook.name, exercises_of(notebook.name)
    if name == VARIANTS:
        whose, exercises = variants_of(notebook, student)
        name = f"{name} of {'nobody' if whose is None else whose}"
    verdicts = [grade_answer(one, notebook.answer(one.name), seed) for one in exercises]
    return name, verdicts + [no_exercise(one) for one in notebook.named() if one not in load()]


def no_exercise(name):
    """The `Verdict` on an answer to an exercise that does not exist."""
    like = get_close_matches(name, load(), 1)
    return Verdict(name, "written", 0, f"there is no exercise of this name{f': {like[0]}?' if like else '.'}")


def grade_answer(exercise, answer, seed=0):
    """The `Verdict` on what a notebook holds for one exercise.

    A function that calls a wrong answer to another exercise is looked at once more, with the library's in its place:
    one mistake is counted once.
    """
    if answer.problem or answer.is_stub:
        return Verdict(exercise.name, "written", exercise.points, answer.problem or NOT_WRITTEN)
    verdict = grade_code(exercise, answer.function, answer.code, seed)
    if not verdict and answer.alone != answer.code:
        alone = grade_code(exercise, answer.function, answer.alone, seed)
        if alone.points > verdict.points:
            alone.lesson = "With the library's in place of the other functions of yours that it calls."
            return alone
    return verdict


def grade_code(exercise, function, code, seed):
    """The `Verdict` on a function that code defines, in a process of its own."""
    process = StudentProcess(code, function)
    try:
        with process:
            if not callable(process.function):
                return Verdict(exercise.name, "runs", exercise.points, f"{function} is no function.")
            process.function.exercise = exercise.name
            verdict = grade(process.function, seed)
    except Ended:
        verdict = Verdict(exercise.name, "runs", exercise.points)
    except Exception as error:  # of the student's code while it is defined; and no verdict may be lost
        verdict = Verdict(exercise.name, "runs", exercise.points, f"it could not be judged: {said(error)}.")
    if process.failure:
        verdict = Verdict(exercise.name, "runs", exercise.points, process.failure)
    return verdict
