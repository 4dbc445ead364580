"""A student's notebook as a file: the functions in it, and the code that each of them needs, by the syntax tree alone.

Nothing of the notebook is run here. Of each cell only imports, functions, classes and assignments are looked at, and
of these only what the function needs: what else a cell does, an endless loop or an exit, is left out, and so does the
order of the cells not matter. A cell that is no Python is passed over.
"""

import ast
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from .exercise import BY_NAME, load
from .slices import Slice, answered, is_stub

LARGEST = 100 << 20  # bytes of a notebook


class NoNotebook(ValueError):
    """A file that is no notebook; its text is one sentence."""


@dataclass
class Answer:
    """What a notebook holds for an exercise: `code` that defines `function`, or a `problem`, a sentence.

    alone: the code with the library's functions in place of the answers to other exercises that it calls.
    """

    exercise: str
    function: str = ""
    code: str = ""
    alone: str = ""
    is_stub: bool = False
    problem: str = ""


@dataclass
class StudentNotebook:
    """name: of the course's notebook, "03_norms"; trees: the cells' syntax trees; broken: [(text, error)].

    metadata: what the notebook says of itself, as {"course": "03_norms"}.
    """

    path: Path
    name: str
    metadata: dict = field(default_factory=dict)
    trees: list = field(default_factory=list)
    broken: list = field(default_factory=list)

    def answer(self, exercise):
        """The `Answer` to an exercise: the last that is written, of several."""
        found = [node for tree in self.trees for node in tree.body if self.is_answer(node, exercise)]
        if not found:
            return Answer(exercise, problem=self.why_missing(exercise))
        written = [node for node in found if not is_stub(node)]
        if not written:
            return Answer(exercise, found[-1].name, is_stub=True)
        code, alone = (Slice(self.trees, written[-1], alone).code() for alone in (False, True))
        return Answer(exercise, written[-1].name, code, alone)

    def named(self):
        """The exercises that decorators in it name, in order; what they name may not exist."""
        nodes = [node for tree in self.trees for node in tree.body if isinstance(node, ast.FunctionDef)]
        return list(dict.fromkeys(str(name) for node in nodes for name in answered(node)))

    @staticmethod
    def is_answer(node, exercise):
        """A function whose decorator says so, or one without decorator that has the name."""
        if not isinstance(node, ast.FunctionDef):
            return False
        answers = answered(node)
        return exercise in answers or not answers and node.name == exercise

    def why_missing(self, exercise):
        """Why no cell defines an exercise: one sentence."""
        for text, error in self.broken:
            if re.search(rf"exercise\(\s*['\"]{re.escape(exercise)}['\"]|def {re.escape(exercise)}\(", text):
                return f"its cell is no Python that can be read: {error.msg}, line {error.lineno} of the cell."
        return "no cell of the notebook defines it."


def read_notebook(path):
    """A file .ipynb -> `StudentNotebook`. Raises NoNotebook, one sentence."""
    path = Path(path)
    if path.is_dir():
        raise NoNotebook(f"{path} is a folder; give the notebooks in it, {path}/*.ipynb.")
    try:
        if path.stat().st_size > LARGEST:
            raise NoNotebook(f"{path} is larger than any notebook ({path.stat().st_size >> 20} MB).")
        content = json.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError:
        raise NoNotebook(f"there is no file {path}.") from None
    except OSError as error:
        raise NoNotebook(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError):
        raise NoNotebook(f"{path} is no notebook: it holds no JSON.") from None
    cells = content.get("cells") if isinstance(content, dict) else None
    if not isinstance(cells, list):
        raise NoNotebook(f"{path} is no notebook that is read here: it has no cells (of format 4).")
    notebook = StudentNotebook(path, "")
    for text in filter(None, map(code_of, cells)):
        try:
            notebook.trees.append(ast.parse(without_magics(text)))
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            notebook.broken.append((text, error if isinstance(error, SyntaxError) else SyntaxError(str(error))))
    ours = content["metadata"].get("miniclip") if isinstance(content.get("metadata"), dict) else None
    notebook.metadata = ours if isinstance(ours, dict) else {}
    notebook.name = name_of(path, notebook)
    return notebook


def code_of(cell):
    """The text of a code cell, "" of any other."""
    if not isinstance(cell, dict) or cell.get("cell_type") != "code":
        return ""
    source = cell.get("source", "")
    text = "".join(map(str, source)) if isinstance(source, list) else str(source)
    return "" if re.match(r"\s*%%(?!time|capture)", text) else text


def without_magics(text):
    """The code without lines of IPython's own, %matplotlib inline or !ls; in a string they may stand."""
    try:
        ast.parse(text)
        return text
    except (SyntaxError, ValueError, RecursionError):
        return re.sub(r"(?m)^(\s*)(%|!|\?).*$|^(\s*)\S+\?+\s*$", r"\1\3pass", text)


def name_of(path, notebook):
    """Which notebook of the course it is: as metadata say, or the file's name, or its exercises. Raises NoNotebook."""
    known = {exercise.notebook for exercise in load().values()}
    says = notebook.metadata.get("course")
    if isinstance(says, str) and says in known:
        return says
    for name in sorted(known):
        if path.stem.startswith(name):
            return name
    found = [BY_NAME[name].notebook for name in notebook.named() if name in BY_NAME]
    if not found:
        raise NoNotebook(f"{path} holds no exercise of the course.")
    return max(found, key=found.count)
