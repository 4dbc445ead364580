"""The command `python -m miniclip bug`: a copy of the library with bugs in it, to be found with its own checker."""

import base64
import json
import shutil
import zlib
from pathlib import Path

import numpy as np

from .bugs import BUGS

PACKAGE = Path(__file__).parents[1]
LEFT = ("models", "mosaics", "__pycache__", "course")  # what a hunt does not need, or must not see
SEAL = "answers.sealed"
TEXT = """\
{count} of the backward passes in this copy of the library {are} wrong. Find out which, and what is wrong.

    cd {folder}
    python -m miniclip gradcheck --layer layer_norm --layer softmax     run here, it checks this copy

Begin with the small layers: each of the large ones is wrong where a small one in it is, and takes long to diagnose.
They are: {cases}.

When you are done, in the real library: python -m miniclip bug --open {folder}
"""


def run_bug_command(options):
    """Spoil a copy, or open the answers. options: seed, count, out, open. -> exit status.

    Raises ValueError or OSError, one sentence, for bad use.
    """
    if options.open:
        for number, bug in enumerate(open_answers(options.open), 1):
            print(f"{number}. {bug['file']}, {bug['function']}: {bug['why']}")
            print("\n".join(f"     {sign} {line}" for sign, text in (("is", bug["new"]), ("was", bug["old"]))
                            for line in text.strip().splitlines() or ["nothing"]))  # fmt: skip
        return 0
    folder = Path(options.out)
    chosen = choose_bugs(options.seed, options.count)
    spoil_copy(folder, chosen)
    cases = ", ".join(dict.fromkeys(bug.case for bug in BUGS))
    text = TEXT.format(count=len(chosen), are="are" if len(chosen) > 1 else "is", folder=folder, cases=cases)
    (folder / "README.txt").write_text(text, "utf-8")
    print(text, end="")
    return 0


def choose_bugs(seed, count):
    """So many `Bug`s, of as many functions. Raises ValueError."""
    functions = list(dict.fromkeys(bug.function for bug in BUGS))
    if not 1 <= count <= len(functions):
        raise ValueError(f"--count is {count}; it must be from 1 to {len(functions)}.")
    if seed < 0:
        raise ValueError(f"--seed is {seed}; it must be at least 0.")
    rng = np.random.default_rng([seed, *b"bugs"])
    names = [functions[k] for k in rng.permutation(len(functions))[:count]]
    bugs = [[bug for bug in BUGS if bug.function == name] for name in names]
    return [some[rng.integers(len(some))] for some in bugs]


def spoil_copy(folder, bugs):
    """Copy the package to folder/miniclip with these bugs in it, and seal the answers beside it. Raises ValueError."""
    if folder.exists():
        raise ValueError(f"{folder} exists already: choose another folder, --out hunt2.")
    texts = {}
    for bug in bugs:
        text = texts.get(bug.file) or (PACKAGE / bug.file).read_text("utf-8")
        texts[bug.file] = spoiled(text, bug)
    shutil.copytree(PACKAGE, folder / "miniclip", ignore=shutil.ignore_patterns(*LEFT))
    for name, text in texts.items():
        (folder / "miniclip" / name).write_text(text, "utf-8")
    answers = json.dumps([bug._asdict() for bug in bugs]).encode()
    (folder / SEAL).write_bytes(base64.b85encode(zlib.compress(answers)))


def spoiled(text, bug):
    """The text of a file with a bug in it. Raises ValueError where the line is not there, or more than once."""
    if text.count(bug.old) != 1:
        raise ValueError(f"{bug.file} has changed: the line of {bug.function} that is to be spoiled is not found once.")
    return text.replace(bug.old, bug.new)


def open_answers(folder):
    """The bugs of a hunt, as dicts. Raises ValueError where there is none."""
    path = Path(folder) / SEAL
    try:
        return json.loads(zlib.decompress(base64.b85decode(path.read_bytes())))
    except FileNotFoundError:
        raise ValueError(f"{folder} is no bug hunt: it has no {SEAL}.") from None
    except (ValueError, zlib.error):
        raise ValueError(f"{path} cannot be read.") from None
