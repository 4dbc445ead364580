"""What a teacher reads agrees with the notebooks, and the table of points can be loaded as the guide says."""

import csv
import json
import re
from contextlib import redirect_stdout
from io import StringIO

import pytest
from commands import command
from course.student_notebooks import NOTEBOOKS, write_notebook

from miniclip.course import exercises_of

TEACHING = NOTEBOOKS / "teaching"
PAGES = sorted(TEACHING.glob("[0-9]*.md"))
FIRST_PAGE = (NOTEBOOKS / "README.md").read_text("utf-8")
GUIDE = (TEACHING / "README.md").read_text("utf-8")


def rows(text):
    """The rows of all tables of a page that begin with a number -> [[cell, …]]."""
    return [re.split(r" *\| *", line.strip("| ")) for line in text.splitlines() if re.match(r"\| \d+ \|", line)]


def master(name):
    return (NOTEBOOKS / "source" / f"{name}.py").read_text("utf-8")


MINUTES = {int(row[0]): int(row[3]) for row in rows(FIRST_PAGE)}


def test_the_first_page_names_twelve():
    assert list(MINUTES) == list(range(1, 13))


@pytest.mark.parametrize("name", [path.stem for path in NOTEBOOKS.glob("*.ipynb") if exercises_of(path.stem)])
def test_the_first_page_leads_to_each_notebook(name):
    row = rows(FIRST_PAGE)[int(name[:2]) - 1]
    title = re.search(r"(?m)^# # \d+ · ([^:\n]+)", master(name))[1]
    assert row[1] == f"[{title}]({name}.ipynb)" and row[2] == f"[solve](exercises/{name}.ipynb)"
    assert re.search(r"\*Time:\* about (\d+) minutes", master(name))[1] == row[3]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_page_of_a_notebook(page):
    text = page.read_text("utf-8")
    number, title = re.search(r"(?m)^# # (\d+) · ([^:\n]+)", master(page.stem)).groups()
    assert text.startswith(f"# {number} · {title}: for the teacher\n")
    minutes, plan = re.search(r"\*\*(\d+) minutes:\*\* (.*?)\. ", text.replace("\n", " ")).groups()
    assert int(minutes) == MINUTES[int(number)] == sum(map(int, re.findall(r" (\d+)(?= ·|$)", plan)))
    points = sum(exercise.points for exercise in exercises_of(page.stem))
    assert f"## Marks: {points} by the grader, and up to 6 for the questions" in text
    assert text.count("\n- **") >= 3 and f"`slides/{page.stem}.ipynb`" in text
    questions = re.findall(r"(?m)^\| (\d)\. ", text)
    end = re.search(r"(?s)\*\*Explain\*\*, in a sentence(?: or two)? each.*?\n(# 1\..*?)\n\n", master(page.stem))[1]
    assert questions == re.findall(r"(?m)^# (\d)\. ", end) == ["1", "2", "3"]


def test_timetables_hold_each_notebook_once():
    text = (TEACHING / "timetables.md").read_text("utf-8")
    for part, weeks in zip(text.split("\n## ")[1:3], (12, 6)):
        table = rows(part)
        taught = [[int(number) for number in re.findall(r"(\d+) · ", row[1])] for row in table]
        assert [int(row[0]) for row in table] == list(range(1, weeks + 1))
        assert sorted(sum(taught, [])) == list(MINUTES)
        assert [int(row[2]) for row in table] == [sum(MINUTES[number] for number in week) for week in taught]
    assert f"take {sum(MINUTES.values()) / 60:g} hours" in text
    core = map(int, re.search(r"carries the course is ([\d, ]+) and (\d+):", text).expand(r"\1,\2").split(","))
    assert sum(MINUTES[number] for number in core) == 60 * 6.5 and "That is six and a half hours" in text


def test_links_of_the_pages_lead_somewhere():
    for page in [NOTEBOOKS / "README.md", *TEACHING.glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


HARD = """@exercise("central")
def central(y, h):
    raise ValueError('a comma, a "quotation", a 👍\\nand a line of its own')"""
SOLVED = '@exercise("richardson")\ndef richardson(y, h):\n    return (y(h) - y(-h)) / (2 * h)'


@pytest.mark.slow
def test_the_table_of_points(tmp_path, monkeypatch, capsys):
    """One row for each exercise of each file, with the columns of the guide; its lines of Python give the marks."""
    monkeypatch.chdir(tmp_path)
    paths = [write_notebook(tmp_path / f"{name}, A.ipynb", HARD, SOLVED) for name in ("Żak", "Ng")]
    (tmp_path / "none.ipynb").write_text("{}")
    assert command("grade", *paths, "none.ipynb", "--csv") == 2
    table = tmp_path / "points.csv"
    printed = capsys.readouterr()
    table.write_text(printed.out, "utf-8")
    assert len(printed.err.splitlines()) == 1 and "none.ipynb" in printed.err
    found = list(csv.DictReader(printed.out.splitlines(keepends=True)))
    assert re.findall(r"(?m)^\| `(\w+)` \| [a-z]", GUIDE.partition("one row for each exercise")[2]) == list(found[0])
    names = [exercise.name for exercise in exercises_of("01_one_slope")]
    assert [(row["file"], row["exercise"]) for row in found] == [(str(path), name) for path in paths for name in names]
    assert all(float(row["points"]) <= int(row["of"]) for row in found)
    assert found[0]["stage"] == "runs" and 'a comma, a "quotation", a 👍' in found[0]["sentence"]
    assert not any(row["sentence"].startswith(tuple("=+-@")) for row in found)  # a spreadsheet would compute it
    with redirect_stdout(StringIO()) as marks:
        exec(re.search(r"(?s)```python\n(.*?)```", GUIDE)[1], {})
    assert command("grade", *paths, "--json") == 1
    for line, one in zip(marks.getvalue().splitlines(), json.loads(capsys.readouterr().out)["notebooks"], strict=True):
        given, of = (sum(verdict[key] for verdict in one["verdicts"]) for key in ("points", "of"))
        assert line == f"{one['file']}: {given:g} of {of}" and given < of
