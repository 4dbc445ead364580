"""The folder of a run: made, locked against another run, and its log."""

import json
import os
from pathlib import Path


def make_folder(out):
    """Make the folder of a run. Raises ValueError where that is not possible."""
    try:
        Path(out).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"the folder {out} cannot be made ({error.strerror}); choose another --out.") from None


def lock_folder(out):
    """A lock on a folder, until it is released or the process ends. Raises ValueError where another process has it."""
    from filelock import FileLock, Timeout

    lock = FileLock(Path(out) / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ValueError(f"another run is writing into {out}: wait until it ends, or choose another --out.") from None
    except OSError as error:
        raise ValueError(f"{lock.lock_file} cannot be written ({error.strerror}); choose another --out.") from None
    return lock


class Log:
    """A file of JSON lines, and the same rows in memory, without what was written after `step`.

    Raises ValueError where a line is no row of a log; but the last one may be torn, and is dropped.
    """

    def __init__(self, path, step):
        self.path = path
        lines = path.read_text(errors="replace").splitlines(keepends=True) if path.exists() and step else []
        rows = [self.row(line, number) for number, line in enumerate(lines, 1) if line.endswith("\n")]
        self.rows = [row for row in rows if row["step"] <= step]
        beside = path.with_suffix(".tmp")
        beside.write_text("".join(json.dumps(row) + "\n" for row in self.rows))
        os.replace(beside, path)

    def row(self, line, number):
        """One line of the file as a dict."""
        try:
            row = json.loads(line)
            if isinstance(row["step"], int) and not isinstance(row["step"], bool):
                return row
        except (ValueError, TypeError, KeyError, RecursionError):
            pass
        raise ValueError(
            f"{self.path}, line {number}, is no row of a log, {line.strip()[:60]!r}: mend it or take it out; the "
            "checkpoint beside it is whole."
        )

    def add(self, row):
        """Append one row; it is in the file when this returns."""
        self.rows.append(row)
        with open(self.path, "a") as file:
            file.write(json.dumps(row) + "\n")
