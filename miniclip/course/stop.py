"""Where grading stops, and what the checker's report says in one sentence."""

from .compare import told_apart

UNKNOWN = ("", "unknown")


class Stop(Exception):
    """The stage at which an exercise fails, what is wrong, what the diagnosis calls it, and the trap, if at one."""

    def __init__(self, stage, sentence, kind="", report=None, trap=""):
        self.stage, self.sentence, self.kind, self.report, self.trap = stage, sentence, kind, report, trap
        self.lesson = ""


def unjudged(report):
    """Why the checker cannot judge, though it found nothing wrong; "" where it can."""
    if report.problems or report.verdict != "could not be checked":
        return ""
    return next((row.why for row in report.rows if row.verdict == "unchecked"), "no gradient can be compared.")


def stop_at(stage, report, where, trap=""):
    """The `Stop` of a report that found something wrong, `where`: "at x (3, 4)"."""
    if report.problems:
        return Stop("contract", f"{str(report.problems[0]).rstrip('.')}, {where}.", "", report, trap)
    wrong = [row for row in report.rows if row.verdict == "WRONG"]
    row = next((row for row in wrong if row.kind not in UNKNOWN), wrong[0])
    index = list(row.index) if row.index else ""
    numbers = f": {row.name}{index} is {told_apart(row.claimed, row.found)}" if row.index else ""
    why = f" Probably: {row.why}" if row.why else ""
    return Stop(stage, f"the gradient of {row.name} is wrong{numbers}, {where}.{why}", row.kind, report, trap)
