"""Variants: tasks for marks, chosen by a student's number, whose solutions are nowhere in the library.

    python -m miniclip grade --variants 3 --student 12345      writes variants-12345.ipynb, to be solved
    python -m miniclip grade variants-12345.ipynb              grades it

The same number is given the same tasks, one of each group first. The tasks: exercises/v*.py.
"""

import hashlib
import inspect
import json
import re
from itertools import chain, zip_longest
from pathlib import Path
from textwrap import indent

from .exercise import VARIANTS, exercises_of, find_exercise
from .hints import folded_hints

GROUPS = (
    ("gelu_tanh", "squared_relu", "swiglu", "weight_norm_linear", "sine_positions"),
    ("rms_norm", "group_norm", "biased_attention", "cosine_scores"),
    ("hard_negative_loss", "focal_loss", "siglip_by_class"),
)
SETUP = "import numpy as np\n\nfrom miniclip.course import exercise, grade"
TITLE = """# Variants for {student}

{count}. Each is a function that returns its output and its own backward, as the layers of the library
do. Its text says what goes in and what comes out; gradients come back in the order of the arguments, without those
that have none. `grade` looks at it as the teacher will: it knows the forward pass alone, and proves your gradients by
it. The forward pass is a quarter of the points."""


def choose_variants(student, count):
    """[Exercise]: the variants of a student, a number or a name. Raises ValueError for more than there are."""
    if not 1 <= count <= sum(map(len, GROUPS)):
        raise ValueError(f"--variants is {count}; it must be from 1 to {sum(map(len, GROUPS))}.")
    if not re.fullmatch(r"[\w.-]{1,40}", str(student)):
        raise ValueError(f"--student is {str(student)!r}; it must be a number, or letters and digits without a space.")

    def rank(name):
        return hashlib.sha256(f"{student} {name}".encode()).hexdigest()

    groups = sorted((sorted(group, key=rank) for group in GROUPS), key=lambda group: rank(" ".join(group)))
    names = [name for name in chain(*zip_longest(*groups)) if name]
    return [find_exercise(name) for name in names[:count]]


def write_variants(student, count):
    """Write the notebook of a student into this folder -> its path. Raises ValueError where it is there already."""
    chosen, path = choose_variants(student, count), Path(f"variants-{student}.ipynb")
    if path.exists():
        raise ValueError(f"{path} exists already: move it away, it may hold somebody's answers.")
    tasks = f"{count} tasks" if count > 1 else "One task"
    cells = [text_cell(TITLE.format(student=student, count=tasks)), code_cell(SETUP)]
    for number, one in enumerate(chosen, 1):
        cells += [text_cell(f"## {number}. `{one.name}`: {one.points} points"), code_cell(stub(one))]
        cells.append(text_cell(folded_hints(one)))
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number:02}"
    metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "miniclip": {"course": VARIANTS, "student": str(student), "count": count},
    }
    notebook = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return path


def stub(exercise):
    """The cell in which a variant is written."""
    reference = exercise.reference
    text = indent(f'"""{inspect.getdoc(reference)}\n"""\n...', "    ")
    define = f'@exercise("{exercise.name}")\ndef {exercise.name}{inspect.signature(reference)}:'
    return f"{define}\n{text}\n\n\ngrade({exercise.name})"


def text_cell(text):
    """A cell of Markdown, as a notebook holds it."""
    return {"cell_type": "markdown", "metadata": {}, "source": text}


def code_cell(text):
    """A cell of code without output, as a notebook holds it."""
    return {"cell_type": "code", "metadata": {}, "source": text, "outputs": [], "execution_count": None}


def variants_of(notebook, student=None):
    """Whose variants a `StudentNotebook` holds, and which they are -> student, [Exercise].

    student: who it should be, where the teacher says so; then the notebook's own word does not count. Without either,
    those that are answered in it.
    """
    says = notebook.metadata
    named = notebook.named()
    try:
        count = int(says.get("count") or len(named))
        student = says.get("student") if student is None else student
        return student, answered_in(named) if student is None else choose_variants(student, count)
    except (ValueError, TypeError):
        return student, answered_in(named)


def answered_in(named):
    """The variants of which a notebook holds an answer, by the names that it uses."""
    return [one for one in exercises_of(VARIANTS) if one.name in named]
