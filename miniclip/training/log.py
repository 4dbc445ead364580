"""The log of a training run: numbers of a step, or of an evaluation, a line each."""

import json
import os


class Log:
    """A file of JSON lines, and the same rows in memory."""

    def __init__(self, path):
        self.path, self.rows = path, []

    def cut(self, step):
        """Forget what was written after `step`, as when a run goes on from there."""
        lines = self.path.read_text().splitlines(keepends=True) if self.path.exists() else []
        self.rows = [json.loads(line) for line in lines if line.endswith("\n")]
        self.rows = [row for row in self.rows if row["step"] <= step]
        beside = self.path.with_suffix(".tmp")
        beside.write_text("".join(json.dumps(row) + "\n" for row in self.rows))
        os.replace(beside, self.path)

    def add(self, row):
        """Append one row; it is in the file when this returns."""
        self.rows.append(row)
        with open(self.path, "a") as file:
            file.write(json.dumps(row) + "\n")
