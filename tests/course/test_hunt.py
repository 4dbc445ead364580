"""The bug hunt: every bug is in the library once, is found by the checker, and comes into the copy unseen."""

import subprocess
import sys
import types

import pytest
from commands import command, refused

from miniclip.course.bugs import BUGS
from miniclip.course.hunt import PACKAGE, choose_bugs, spoiled
from miniclip.course.library import exchange
from miniclip.gradcheck import check_layer


@pytest.fixture
def in_place():
    """in_place(bug): the functions of a file with a bug in it, in the library's place while the test runs."""
    pairs = []

    def enter(bug):
        name = f"miniclip.{bug.file.removesuffix('.py')}"
        module = types.ModuleType(name)
        module.__package__ = "miniclip"
        exec(compile(spoiled((PACKAGE / bug.file).read_text("utf-8"), bug), bug.file, "exec"), vars(module))
        own = [key for key, value in vars(module).items() if getattr(value, "__module__", None) == name]
        pairs.extend((vars(sys.modules[name])[key], vars(module)[key]) for key in own)
        for right, wrong in pairs:
            exchange(right, wrong)

    yield enter
    for right, wrong in pairs:
        exchange(wrong, right)


@pytest.mark.parametrize(
    "bug",
    [
        pytest.param(bug, id=f"{bug.function}-{number}", marks=[pytest.mark.slow] * (number % 5 > 0))
        for number, bug in enumerate(BUGS)
    ],
)
def test_every_bug_is_found(bug, in_place):
    """At some seeds: some bugs need an index that repeats, or a kernel of another shape."""
    in_place(bug)
    assert not all(check_layer(bug.case, seed, method="adjoint") for seed in range(6))


def test_the_checker_of_the_copy_finds_it(tmp_path, monkeypatch):
    folder = tmp_path / "hunt"
    (bug,) = choose_bugs(3, 1)
    assert command("bug", "--seed", 3, "--count", 1, "--out", folder) == 0
    words = [sys.executable, "-m", "miniclip", "gradcheck", "--layer", bug.case, "--method", "adjoint"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "WRONG" in done.stdout, done.stderr


def test_a_hunt(tmp_path, capsys):
    folder = tmp_path / "hunt"
    assert command("bug", "--seed", 7, "--count", 2, "--out", folder) == 0
    assert "2 of the backward passes in this copy of the library are wrong" in capsys.readouterr().out
    changed = [
        path.name
        for path in (folder / "miniclip").rglob("*.py")
        if path.read_bytes() != (PACKAGE / path.relative_to(folder / "miniclip")).read_bytes()
    ]
    bugs = choose_bugs(7, 2)
    assert sorted(changed) == sorted({bug.file for bug in bugs}) and not (folder / "miniclip" / "course").exists()
    assert not any(bug.why.encode() in (folder / "answers.sealed").read_bytes() for bug in bugs)
    assert command("bug", "--open", folder) == 0
    said = capsys.readouterr().out
    assert all(bug.why in said for bug in bugs)
    assert "exists already" in refused(capsys, "bug", "--out", folder)


def test_there_are_as_many_as_in_the_checkers_bank():
    assert len(set(BUGS)) == len(BUGS) == 59


def test_hunts_are_drawn_by_their_seeds():
    assert choose_bugs(3, 4) == choose_bugs(3, 4) != choose_bugs(4, 4)
    assert len({bug.function for bug in choose_bugs(0, 20)}) == 20


@pytest.mark.parametrize(
    "options, words",
    [
        (("--count", 0), "it must be from 1 to"),
        (("--count", 99), "it must be from 1 to"),
        (("--seed", -1), "at least 0"),
        (("--open", "nowhere"), "is no bug hunt"),
    ],
)
def test_bad_use(options, words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert words in refused(capsys, "bug", *options)
    assert not list(tmp_path.iterdir())
