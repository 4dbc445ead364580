"""The functions that a student wrote in notebooks, to be used in another one."""

from .exercise import exercises_of, stand_in
from .names import names_for
from .notebook import read_notebook


def load_answers(*paths):
    """Read solved notebooks -> {exercise: function}; where one is not written, the library's.

    Their own code runs here, in this process. Raises NoNotebook for a file that is none.
    """
    found = {}
    for path in paths:
        notebook = read_notebook(path)
        for exercise in exercises_of(notebook.name):
            found[exercise.name] = load(notebook.answer(exercise.name), exercise)
    return found


def load(answer, exercise):
    """One function, or the library's, with a line that says why."""
    if answer.code:
        space = names_for(answer.code)
        try:
            exec(compile(answer.code, f"{exercise.notebook}: {exercise.name}", "exec"), space)
            function = space[answer.function]
            function.exercise = exercise.name
            return function
        except Exception as error:  # the student's
            print(f"{exercise.name} cannot be defined ({type(error).__name__}: {error}): the library's stands in.")
            return stand_in(exercise)
    print(f"{exercise.name} is not written yet: the library's stands in.")
    return stand_in(exercise)
