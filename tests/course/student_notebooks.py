"""Notebooks as students hand them in: cells of code as a file, and the cells of the solved editions."""

import json
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
EDITIONS = sorted(NOTEBOOKS.glob("exercises/*.ipynb"))  # unsolved
SETUP = "import numpy as np\nfrom miniclip.course import exercise, grade"
SOLVED = [NOTEBOOKS / path.name for path in EDITIONS]
# Which draws of points a solution must pass: one in the quick suite, five in the slow one, two hundred in the longest.
SEEDS = [range(1), pytest.param(range(1, 6), marks=pytest.mark.slow), pytest.param(range(200), marks=pytest.mark.long)]


def write_notebook(path, *cells, course="01_one_slope"):
    """A notebook of these cells of code -> its path."""
    made = [{"cell_type": "code", "metadata": {}, "outputs": [], "source": text} for text in cells]
    metadata = {"miniclip": {"course": course}} if course else {}
    path.write_text(json.dumps({"cells": made, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}))
    return path


def code_cells(path):
    """The code of a notebook, a text for each cell."""
    cells = json.loads(path.read_text("utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
