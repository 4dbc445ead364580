"""The command `python -m miniclip bug`: a spoiled copy of the library, for a bug hunt."""

BUG = (
    ("--count", {"type": int, "default": 3}, "how many bugs (default: 3)"),
    ("--seed", {"type": int, "default": 0}, "decides which (default: 0)"),
    ("--out", {"metavar": "FOLDER", "default": "bug-hunt"}, "a new folder for the copy (default: bug-hunt)"),
    ("--open", {"metavar": "FOLDER"}, "print the sealed answers of a hunt"),
)  # fmt: skip


def run_bug(options):
    """bug: a copy of the library with bugs in its backward passes."""
    from ..course import run_bug_command

    return run_bug_command(options)
