"""What `grade` answers: how far an exercise got, what is wrong with it, in a sentence, and a hint."""

from dataclasses import dataclass, field

# What is looked at, in this order, and what part of the points is there for who stops at it.
STAGES = {
    "written": 0.0,  # anything at all, and not the library's
    "runs": 0.0,
    "forward": 0.0,
    "contract": 0.25,  # the forward pass is right
    "gradient": 0.25,
    "traps": 0.5,
    "inside": 0.75,
    "right": 1.0,
}


@dataclass
class Verdict:
    """The verdict on one exercise; true where it is right. Print it.

    stage: that of STAGES at which it stopped, or "right". kind: the diagnosis, of gradcheck's kinds, or "".
    """

    exercise: str
    stage: str
    of: int  # points that can be had
    sentence: str = ""
    kind: str = ""
    hint: str = ""
    lesson: str = ""  # where the mistake does not show
    trap: str = ""  # the trap at which it stopped
    report: object = field(default=None, repr=False)

    def __bool__(self):
        return self.stage == "right"

    @property
    def is_written(self):
        """Whether there was anything to grade."""
        return self.stage != "written"

    @property
    def points(self):
        """Points given: the share of the stage that was reached."""
        return round(STAGES[self.stage] * self.of, 2)

    def __str__(self):
        mark = "✓" if self else "✗" if self.is_written else "·"
        lines = [f"{mark} {self.exercise}: {self.sentence}", self.lesson, self.hint]
        return "\n".join(line for line in lines if line)

    __repr__ = __str__

    def to_json(self):
        """As a dict that JSON can hold."""
        shown = {name: getattr(self, name) for name in ("exercise", "stage", "points", "of", "kind", "sentence")}
        return shown | {"right": bool(self), "lesson": self.lesson, "hint": self.hint}
