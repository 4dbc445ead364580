"""The command `python -m miniclip grade`: points for the exercises of notebooks."""

import sys

GRADE = (
    ("notebooks", {"nargs": "*", "metavar": "NOTEBOOK.ipynb"}, "notebooks of the course, solved as far as they are"),
    ("--json", {"action": "store_true"}, "print JSON"),
    ("--csv", {"action": "store_true"}, "print a table with commas, a row for each exercise"),
    ("--variants", {"type": int, "metavar": "COUNT"}, "write a notebook of so many tasks for marks, for --student"),
    ("--student", {"metavar": "NUMBER"}, "whose variants; those that a notebook of them is graded for"),
    ("--seed", {"type": int, "default": 0}, "decides the points at which is checked (default: 0)"),
)  # fmt: skip


def run_grade(options):
    """grade: the exercises of notebooks, each in a process of its own. 1 if one is not right."""
    from ..course import run_grade_command

    try:
        return run_grade_command(options)
    except KeyboardInterrupt:
        print("miniclip: interrupted.", file=sys.stderr)
        return 130
