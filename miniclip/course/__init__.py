"""The course: the student writes a function of CLIP by hand, and is told what is wrong with it."""

from .answers import load_answers
from .command import run_grade_command
from .exercise import Exercise, Mistake, Notebook, exercise, exercises_of, find_exercise, notebooks
from .grade import grade
from .grade_notebook import grade_notebook
from .hints import KIND_HINTS, hints_for
from .hunt import run_bug_command
from .library import put_in, take_out
from .verdict import Verdict
