"""One source for each notebook of the course: NN_name.py, in jupytext's percent format -> three editions.

    python notebooks/source/build.py                    all; or 03_norms 04_attention
    python notebooks/source/build.py --check            is what is committed what this makes? Status 1 if not
    python notebooks/source/build.py --without-running  sources only: the reading edition keeps its outputs

    notebooks/NN_name.ipynb                    the reading edition: solutions in, executed, figures in
    notebooks/exercises/NN_name.ipynb          the exercise edition: stubs, hints folded, outputs empty
    notebooks/teaching/slides/NN_name.ipynb    slides, for `jupyter nbconvert --to slides`

A master begins with jupytext's header, which names the course's notebook (see 03_norms.py), then a cell with the
title. The opening (badges, and a cell that installs the library where there is none) is put after it.
A cell says in its tags where it belongs: # %% tags=["exercise", "slide"]

    (none)      in the reading and the exercise edition alike
    exercise    a function to be written: @exercise("name"), its docstring, and `grade(name)` at the end. What stands
                between the lines ### BEGIN SOLUTION and ### END SOLUTION is `...` in the exercise edition, and the
                hints that the exercise is registered with follow below it, folded
    answer      the answer to a question asked above: in the exercise edition it is folded
    reading     in the reading edition alone
    student     in the exercise edition alone, as an empty cell for a prediction
    numbers     assertions of what the prose says in numbers: in the reading edition alone, its code hidden
    slide       begins a slide; also in the editions that its other tags say
    more        stays on the slide before it
    only-slide  nowhere but on the slides (with slide or more)
    output      with slide or more: the slide shows the cell's output and not its code

A cell that makes a figure has a text for those who cannot see it: # %% alt="Three curves …". Links are written as
seen from notebooks/. Code is at most 88 wide. What breaks one of these rules is said in one sentence.
"""

import argparse
import copy
import re
import sys
import tomllib
from pathlib import Path

import jupytext
import nbformat

from miniclip.course import exercises_of, find_exercise
from miniclip.course.hints import folded, folded_hints

SOURCE = Path(__file__).parent
NOTEBOOKS = SOURCE.parent
TAGS = {
    "exercise",
    "answer",
    "reading",
    "student",
    "numbers",
    "slide",
    "more",
    "only-slide",
    "output",
}
WIDEST = 88
SOLUTION = re.compile(
    r"(?m)^([ \t]*)### BEGIN SOLUTION\n(.*?)^[ \t]*### END SOLUTION\n?", re.DOTALL
)
EDITIONS = {"reading": "", "exercise": "exercises", "slides": "teaching/slides"}
UP = {"reading": "../", "exercise": "../../", "slides": "../../../"}
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


class Refused(ValueError):
    """A master that breaks a rule; its text says which and where."""


def main():
    parser = argparse.ArgumentParser(
        description="Build the editions of the notebooks from their masters."
    )
    parser.add_argument("names", nargs="*", help="01_one_slope … (default: all)")
    parser.add_argument(
        "--check",
        action="store_true",
        help="build nothing; status 1 where a committed file differs",
    )
    parser.add_argument(
        "--without-running", action="store_true", help="keep the outputs that are there"
    )
    options = parser.parse_args()
    try:
        stale = [path for name in find(options.names) for path in build(name, options)]
    except Refused as error:
        print(f"build.py: {error}", file=sys.stderr)
        return 2
    for path in stale if options.check else ():
        name = path.relative_to(NOTEBOOKS.parent)
        print(f"{name} is not what its master makes: run notebooks/source/build.py")
    return int(options.check and bool(stale))


def find(names):
    """Paths of the masters of these names, or of all. Raises Refused."""
    masters = {path.stem: path for path in sorted(SOURCE.glob("[0-9]*.py"))}
    for name in names:
        if Path(name).stem not in masters:
            raise Refused(f"there is no master {name}; there are {', '.join(masters)}.")
    return [masters[Path(name).stem] for name in names] or list(masters.values())


def build(master, options):
    """Make the editions of one master -> paths of those that differ from what is there."""
    cells = read(master)
    made = {name: edition(name, cells, master.stem) for name in EDITIONS}
    paths = {
        name: NOTEBOOKS / folder / f"{master.stem}.ipynb"
        for name, folder in EDITIONS.items()
    }
    stale = [
        paths[name]
        for name in EDITIONS
        if without_outputs(made[name]) != committed(paths[name])
    ]
    if options.check:
        ran = paths["reading"] in stale or was_run(nbformat.read(paths["reading"], 4))
        return stale if ran else [*stale, paths["reading"]]
    if options.without_running:
        keep_outputs(made["reading"], paths["reading"])
    else:
        print(f"running {master.stem} …", flush=True)
        run(made["reading"])
    copy_outputs(made["reading"], made["slides"])
    for name, path in paths.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(made[name], path)
    return stale


# ------------------------------------------------------------------------------------------ the master


def read(master):
    """The cells of a master, each with `.key`, its number there. Raises Refused."""
    cells = jupytext.read(master).cells
    for key, cell in enumerate(cells):
        cell.key, where = (
            key,
            f"{master.name}, cell {key} ({cell.source.strip().splitlines()[0][:50]!r})",
        )
        if unknown := set(tags(cell)) - TAGS:
            raise Refused(f"{where}: there is no tag {', '.join(sorted(unknown))}.")
        wide = [line for line in cell.source.splitlines() if len(line) > WIDEST]
        if cell.cell_type == "code" and wide:
            raise Refused(
                f"{where}: a line of code is {len(wide[0])} wide, more than {WIDEST}: {wide[0].strip()}"
            )
        if "exercise" in tags(cell):
            check_exercise(cell, where, master.stem)
        elif "### BEGIN SOLUTION" in cell.source:
            raise Refused(f'{where}: a solution, and no tag "exercise".')
    named = [exercise_in(cell) for cell in cells if "exercise" in tags(cell)]
    if missing := [
        one.name for one in exercises_of(master.stem) if one.name not in named
    ]:
        raise Refused(f"{master.name} has no cell for {', '.join(missing)}.")
    return cells


def check_exercise(cell, where, stem):
    name = exercise_in(cell)
    if name is None or not SOLUTION.search(cell.source):
        raise Refused(
            f'{where}: an exercise has @exercise("…") and ### BEGIN SOLUTION … ### END SOLUTION.'
        )
    if find_exercise(name).notebook != stem:
        raise Refused(
            f"{where}: {name} is registered for {find_exercise(name).notebook}."
        )
    if f"grade({name})" not in cell.source:
        raise Refused(f"{where}: it does not end with grade({name}).")


def exercise_in(cell):
    found = re.search(r'@exercise\("(\w+)"\)', cell.source)
    return found[1] if found else None


def tags(cell):
    return cell.metadata.get("tags", [])


# ------------------------------------------------------------------------------------------ the editions


def edition(kind, cells, stem):
    """One edition, without outputs. A cell has its number in the master for its id."""
    makers = {"reading": reading, "exercise": exercising, "slides": sliding}
    made = [cell for part in cells for cell in makers[kind](part)]
    for cell in made:
        cell.source = cell.source.replace("](../", f"]({UP[kind]}")
    if kind != "slides":
        made[1:1] = opening(stem, kind)
    notebook = nbformat.v4.new_notebook(cells=made)
    notebook.metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    notebook.metadata["miniclip"] = {"course": stem, "edition": kind}
    return notebook


def new(cell, source, **metadata):
    """A cell of an edition, made of one of the master."""
    is_code = cell.cell_type == "code"
    make = nbformat.v4.new_code_cell if is_code else nbformat.v4.new_markdown_cell
    if alt := cell.metadata.get("alt"):
        metadata |= {"alt": alt, "mystnb": {"image": {"alt": alt}}}
    return make(source, id=f"cell-{cell.key:02}", metadata=metadata)


def reading(cell):
    if {"student", "only-slide"} & set(tags(cell)):
        return []
    hidden = {"tags": ["hide-input"], "jupyter": {"source_hidden": True}}
    source = SOLUTION.sub(lambda match: match[2], cell.source)
    return [new(cell, source, **(hidden if "numbers" in tags(cell) else {}))]


def exercising(cell):
    if {"reading", "numbers", "only-slide"} & set(tags(cell)):
        return []
    if "answer" in tags(cell):
        return [new(cell, folded("Answer: think first", cell.source))]
    made = [new(cell, SOLUTION.sub(lambda match: f"{match[1]}...\n", cell.source))]
    if "exercise" in tags(cell):
        hints = folded_hints(find_exercise(exercise_in(cell)))
        hints_id = f"cell-{cell.key:02}-hints"
        made.append(nbformat.v4.new_markdown_cell(hints, id=hints_id))
    return made


def sliding(cell):
    if not {"slide", "more"} & set(tags(cell)):
        return []
    kind = "slide" if "slide" in tags(cell) else "-"
    metadata = {"slideshow": {"slide_type": kind}}
    if (
        cell.cell_type == "code"
    ):  # slides lack the cells between them: they are never run
        hidden = ["remove_input"] if "output" in tags(cell) else []
        metadata |= {"tags": ["skip-execution", *hidden]}
    return [new(cell, SOLUTION.sub(lambda match: match[2], cell.source), **metadata)]


def opening(stem, kind):
    """The line of badges, and the cell that installs the library where there is none."""
    project = tomllib.loads((NOTEBOOKS.parent / "pyproject.toml").read_text("utf-8"))
    address = project["project"].get("urls", {}).get("Repository", "").rstrip("/")
    links = {
        "reading": f"[the same notebook, to be solved](exercises/{stem}.ipynb)",
        "exercise": f"[the same notebook, with solutions](../{stem}.ipynb)",
    }
    line, install = [links[kind]], "raise ImportError('pip install -e . in a clone')"
    if address:
        install = f'%pip install --quiet "git+{address}"'
    if "github.com/" in address:
        repository = address.partition("github.com/")[2].removesuffix(".git")
        path = f"{repository}/blob/main/notebooks/exercises/{stem}.ipynb"
        badge = "https://colab.research.google.com/assets/colab-badge.svg"
        target = f"https://colab.research.google.com/github/{path}"
        line.insert(0, f"[![Open in Colab]({badge})]({target})")
    code = f"""import importlib.util

if importlib.util.find_spec("miniclip") is None:
    {install}"""
    return [
        nbformat.v4.new_markdown_cell(" · ".join(line), id="links"),
        nbformat.v4.new_code_cell(
            code, id="install", metadata={"tags": ["hide-input"]}
        ),
    ]


# ------------------------------------------------------------------------------------------ outputs


def run(notebook):
    """Execute the reading edition. Raises Refused where a cell fails, or shows a figure without an alternative text."""
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    try:
        client = NotebookClient(
            notebook,
            timeout=600,
            kernel_name="python3",
            record_timing=False,
            coalesce_streams=True,
        )
        client.execute(cwd=str(NOTEBOOKS))
    except CellExecutionError as error:
        raise Refused(
            f"a cell of {notebook.metadata.miniclip.course} failed.\n{error}"
        ) from None
    notebook.metadata["language_info"] = {"name": "python"}
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            output.get("data", {}).pop("text/plain", None) if "image/png" in output.get(
                "data", {}
            ) else None
            if "image/png" in output.get("data", {}):
                if "alt" not in cell.metadata:
                    start = cell.source.strip().splitlines()[0]
                    raise Refused(
                        f"{notebook.metadata.miniclip.course}: the figure of {start!r} has no alt=… ."
                    )
                output.metadata["image/png"] = {"alt": cell.metadata.alt}


def keep_outputs(notebook, path):
    """Take the outputs of the file that is there, where a cell is the same."""
    if path.exists():
        before = {
            cell.source: cell
            for cell in nbformat.read(path, 4).cells
            if cell.cell_type == "code"
        }
        for cell in notebook.cells:
            if cell.cell_type == "code" and cell.source in before:
                cell.outputs = before[cell.source].outputs
                cell.execution_count = before[cell.source].execution_count


def copy_outputs(notebook, slides):
    """What the reading edition shows, onto the slides."""
    shown = {cell.id: cell for cell in notebook.cells if cell.cell_type == "code"}
    for cell in slides.cells:
        if cell.cell_type == "code" and cell.id in shown:
            cell.outputs = copy.deepcopy(shown[cell.id].outputs)
            cell.execution_count = shown[cell.id].execution_count


def was_run(notebook):
    """Whether every code cell was run, and none failed."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    failed = any(
        output.output_type == "error" for cell in code for output in cell.outputs
    )
    return all(cell.execution_count for cell in code) and not failed


def without_outputs(notebook):
    """What `--check` compares: everything but outputs."""
    bare = copy.deepcopy(notebook)
    for cell in bare.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return bare


def committed(path):
    return without_outputs(nbformat.read(path, 4)) if path.exists() else None


if __name__ == "__main__":
    sys.exit(main())
