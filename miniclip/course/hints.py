"""Hints: of an exercise, and for each kind of mistake that the diagnosis tells apart.

They open one after the other: those for what was found, the exercise's own for this kind first, then the exercise's.
"""

KIND_HINTS = {
    "−1": "Follow one number through both passes. Where it is subtracted in the forward pass, its gradient is "
    "subtracted too.",
    "2": "Something is counted two times, or a ½ is missing. The slope of x² is 2x, and that of ½x² is x.",
    "½": "A 2 is missing. Does x enter the output twice, as in x · x or in two terms? Each way brings a gradient.",
    "N": "A mean stands in the forward pass: the gradient of each of its n entries is 1/n.",
    "1/N": "A gradient that many outputs share is the sum of what they send back, not the mean.",
    "k times": "A gradient is added up more often than its array is used. Is it added into what is there already?",
    "√d": "The scale 1/√d of the forward pass belongs into the backward pass too, once.",
    "1/√d": "The scale 1/√d stands in the backward pass more often than in the forward pass.",
    "τ": "The temperature multiplies something in the forward pass, so it multiplies its gradient.",
    "1/τ": "The temperature stands in the backward pass once too often.",
    "factor": "The direction is right and the length is wrong. Write the derivative down, and look which constants "
    "stand in it.",
    "sqrt": "A root: the slope of √x is 1 / (2√x).",
    "precision": "Nearly right. Look for a rounded constant, for float32, and for an ε that stands in one pass only.",
    "never accumulated": "Part of the gradient is 0. Is each use of this array followed back, and added up?",
    "clip": "Where a value is cut off, the output does not depend on the input: the gradient there is 0.",
    "mask": "A mask of the forward pass decides where the gradient goes: keep that mask, and use it again.",
    "transposed": "Write the shapes down. If y = x Wᵀ, what goes back to x passes W and not Wᵀ; at square shapes both "
    "fit and only one is right.",
    "turned": "One axis runs the wrong way round. What slides forward over the input slides backward over the "
    "gradient.",
    "permuted": "The numbers are right and stand in the wrong places. Undo transpose and reshape in the reverse order; "
    "the inverse of a transpose of three axes may be another one.",
    "swapped": "Two gradients were exchanged. Compare the order in which they are returned with that of the arguments.",
    "shortcut": "Around a block, in y = x + f(x), the gradient goes two ways: through f, and past it. Add both.",
    "overwritten": "An index occurs twice, and the second time overwrites the first. `a[i] += g` adds each place only "
    "once; `np.add.at(a, i, g)` adds all.",
    "time step": "In a loop over steps, each step sends something back to the one before it. Is the last, or the "
    "first, left out?",
    "some indices": "Only some places are wrong. What do they have in common: an edge, a repeated index, a column?",
    "outside the sums": "The weight multiplies x̂ last, so on the way back it comes first: multiply dy by it before "
    "the means are taken.",
    "centring": "Add a constant to the input, and the output stays: so the gradient must sum to 0. A term with a sum "
    "or mean is missing.",
    "projection": "Make the input longer, and the output stays: so the gradient must be at a right angle to it. The "
    "term along x̂ is missing.",
    "slope": "The slope of the function itself is wrong. Write down f′, and compare it at one number.",
    "wrong axis": "A sum or a mean runs over the wrong axis. What was copied along an axis in the forward pass is "
    "summed over it on the way back.",
    "regulariser": "The gradient holds a part of the weights themselves, as of weight decay. That is the optimiser's.",
    "one-sided": "Two terms are due, one for each way in which the array enters, and only one is there.",
    "missing term": "One way from the input to the output was not followed back. Draw them all, and add up what each "
    "sends.",
    "cotangent": "Backward must be linear in dy: twice dy, twice the gradient. It may not look at the sign of dy.",
    "unknown": "Take the smallest case, one row of two numbers, and work both passes out on paper.",
}  # fmt: skip
STAGE_HINTS = {
    "runs": "Read the shapes above, and print the shape of each step in your function.",
    "forward": "Write the formula down for one row, and compare it with your function at two numbers.",
    "contract": "Compare what your backward returns with the docstring: which gradients, and in which order.",
    "traps": "Everywhere else it is right. What is special about this point?",
    "inside": "Alone it is right. Does it take arrays with any number of axes, and does float32 stay float32?",
}


def hints_for(exercise, stage, kind="", trap=""):
    """The hints of an exercise that stopped at a stage, perhaps at a trap, with what the diagnosis calls its mistake.

    Its own come first, for the mistake, then for the trap, or else for the stage.
    """
    own = [hint for key in (kind, trap) for hint in as_list(exercise.kinds.get(key))]
    common = KIND_HINTS.get(kind) or STAGE_HINTS.get(stage)
    return [*(own or as_list(exercise.kinds.get(stage))), *as_list(common), *exercise.hints]


def as_list(hints):
    """One text, several, or None, as a list."""
    return [hints] if isinstance(hints, str) else list(hints or ())


opened = {}  # {(exercise, stage, kind, trap): how many hints have been shown}


def next_hint(exercise, stage, kind="", trap=""):
    """The next hint -> (number, how many there are, text), or None where there is none."""
    hints = hints_for(exercise, stage, kind, trap)
    if not hints:
        return None
    key = exercise.name, stage, kind, trap
    opened[key] = min(opened.get(key, 0) + 1, len(hints))
    return opened[key], len(hints), hints[opened[key] - 1]


def folded_hints(exercise):
    """The hints of an exercise for a notebook, each folded."""
    count = len(exercise.hints)
    return "\n\n".join(folded(f"Hint {number} of {count}", hint) for number, hint in enumerate(exercise.hints, 1))


def folded(summary, text):
    """Markdown that shows the summary, and the text only when that is clicked."""
    return f"<details><summary>{summary}</summary>\n\n{text}\n\n</details>"
