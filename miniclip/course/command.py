"""The command `python -m miniclip grade notebook.ipynb …`: points for every exercise."""

import csv
import json
import sys

from .grade_notebook import grade_notebook
from .hints import opened
from .variants import write_variants

COLUMNS = ("file", "notebook", "exercise", "points", "of", "stage", "kind", "sentence")


def run_grade_command(options):
    """Grade and print, or write a notebook of variants. options: notebooks, json, csv, seed, variants, student.

    -> exit status: 0 where all exercises are right, 1 where one is not, 2 where a file is no notebook of the course.
    Raises ValueError, one sentence, for bad use.
    """
    if options.json and options.csv:
        raise ValueError("--json and --csv are two forms of the same answer: choose one.")
    if options.seed < 0:
        raise ValueError(f"--seed is {options.seed}; it must be at least 0.")
    if options.variants is not None:
        if options.notebooks or options.student is None:
            raise ValueError("--variants writes a notebook for a --student; notebooks are graded without it.")
        print(f"{write_variants(options.student, options.variants)} is written.")
        return 0
    if not options.notebooks:
        raise ValueError("grade which notebooks? Give them, notebooks/exercises/*.ipynb.")
    is_table = not (options.json or options.csv)
    found, failed = [], []
    for path in options.notebooks:
        opened.clear()  # hints are a student's own
        try:
            name, verdicts = grade_notebook(path, options.seed, options.student)
        except ValueError as error:
            failed.append({"file": str(path), "error": str(error)})
            print(f"miniclip: {error}", file=sys.stderr)
            continue
        found.append({"file": str(path), "notebook": name, "verdicts": verdicts})
        if is_table:
            print_table(path, name, verdicts)
    if options.json:
        files = [{**one, "verdicts": [verdict.to_json() for verdict in one["verdicts"]]} for one in found]
        print(json.dumps({"notebooks": files, "failed": failed}, indent=2, ensure_ascii=False))
    elif options.csv:
        write_csv(found)
    return 2 if failed else int(not all(verdict for one in found for verdict in one["verdicts"]))


def print_table(path, name, verdicts):
    """One notebook as text."""
    points, of = sum(verdict.points for verdict in verdicts), sum(verdict.of for verdict in verdicts)
    print(f"{path} ({name}): {points:g} of {of} points")
    for verdict in verdicts:
        print(f"  {verdict.exercise:20} {verdict.points:4g} of {verdict.of}   {verdict.sentence}")
        for line in filter(None, (verdict.lesson, verdict.hint)):
            print(f"{'':36}{line}")
    print(flush=True)


def write_csv(found):
    """All notebooks as one table, a row for each exercise."""
    table = csv.DictWriter(sys.stdout, COLUMNS, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    for one in found:
        for verdict in one["verdicts"]:
            table.writerow({"file": one["file"], "notebook": one["notebook"], **verdict.to_json()})
