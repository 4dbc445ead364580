"""The folder of a run: made, locked against another run, held against what was asked for, and its log."""

import json
import os
from contextlib import contextmanager
from pathlib import Path

from ..checkpoints import read_arrays, write_arrays
from .config import TrainConfig
from .start import keep_start

FILES = ("last.safetensors", "model.safetensors", "start.safetensors", "log.jsonl")


class RunFolder:
    """The folder of a run, which rank 0 alone reads and writes, and whose errors all ranks raise.

    out: Path; ranks: `Ranks` or `ALONE`; identity: {"config", "data", maybe "from"}, what tells one run from another.
    """

    def __init__(self, out, ranks, identity):
        self.out, self.ranks, self.identity = out, ranks, identity
        self.last, self.lock, self.log = out / "last.safetensors", None, None

    def begin(self, resume, start):
        """Take the folder, and return the arrays that the last run left in it; None for a new run, or from a CLIP.

        Raises ValueError as `Run` does.
        """

        def begin():
            make_folder(self.out)
            self.lock, state = lock_folder(self.out), None
            if self.last.exists() and not resume:
                raise ValueError(f"{self.out} holds a run already: go on with --resume, or choose another --out.")
            if self.last.exists():
                state, identity = read_arrays(self.last)
                check_same_run(self.last, identity, self.identity)
            else:
                check_empty(self.out)
                keep_start(self.out, start)
            self.log = Log(self.out / "log.jsonl", int(state["count"]) if state else 0)
            return state

        return self.ranks.first(begin)

    def note(self, row):
        """Append a row to the log."""
        self.ranks.first(lambda: self.log.add(row))

    def rows(self):
        """The rows of the log."""
        return self.ranks.first(lambda: self.log.rows)

    def write(self, state):
        """Write the arrays to resume from."""
        self.ranks.first(lambda: write_arrays(self.last, state, self.identity))

    def close(self):
        """Let other runs into the folder."""
        if self.lock:
            self.lock.release()


def make_folder(out):
    """Make the folder of a run. Raises ValueError where that is not possible, or where its files cannot be files."""
    try:
        Path(out).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"the folder {out} cannot be made ({error.strerror}); choose another --out.") from None
    for path in (Path(out) / name for name in FILES):
        if path.exists() and not path.is_file():
            raise ValueError(f"{path} is no file, and is in the way of a run: choose another --out.")


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


def check_empty(out):
    """Raises ValueError where a folder holds what a run left behind, but no run to go on with."""
    for name in ("model.safetensors", "log.jsonl"):
        path = Path(out) / name
        if path.exists() and path.stat().st_size:
            what = "a model" if name == "model.safetensors" else "a log"
            raise ValueError(f"{out} holds {what} and no run to go on with: choose another --out.")


def check_same_run(path, theirs, ours):
    """Raises ValueError where the identity of a checkpoint, {"config", "data", maybe "from"}, is not this run's."""
    try:
        config = TrainConfig.from_json(theirs.get("config", theirs.get("recipe"))).to_json()
    except ValueError:
        raise ValueError(f"{path} is no checkpoint of a training run; choose another --out.") from None
    changed = [key for key in ours["config"] if config[key] != ours["config"][key]]
    changed += ["what it starts from"] if theirs.get("from") != ours.get("from") else []
    changed += ["the training data"] if not changed and theirs.get("data") != ours["data"] else []
    if changed:
        why = " (which pictures of a folder are kept from training follows from what they show)"
        raise ValueError(
            f"{path} is of another run: {', '.join(changed)} differ{why * ('the training data' in changed)}. "
            "Resume with what it was started with, or choose another --out."
        )


class Log:
    """A file of JSON lines, and the same rows in memory, without what was written after `step`.

    Raises ValueError where a line is no row of a log; but the last one may be torn, and is dropped. It and `add`
    raise OSError where the file cannot be written, with what is whole.
    """

    def __init__(self, path, step):
        self.path = path
        lines = path.read_text(errors="replace").splitlines(keepends=True) if path.exists() and step else []
        rows = [self.row(line, number) for number, line in enumerate(lines, 1) if line.endswith("\n")]
        self.rows = [row for row in rows if row["step"] <= step]
        beside = path.with_suffix(".tmp")
        with self.writing():
            try:
                beside.write_text("".join(json.dumps(row) + "\n" for row in self.rows))
                os.replace(beside, path)
            finally:
                beside.unlink(missing_ok=True)

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
        with self.writing(), open(self.path, "a") as file:
            file.write(json.dumps(row) + "\n")

    @contextmanager
    def writing(self):
        """Let an OSError say which file it is about, and what is whole."""
        try:
            yield
        except OSError as error:
            last = self.path.with_name("last.safetensors")
            whole = f"{last} is whole: go on from there with --resume" if last.exists() else "no run has begun"
            raise OSError(f"{self.path} could not be written ({error.strerror or error}); {whole}.") from None
