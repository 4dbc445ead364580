"""Figures of pictures with words: what a text finds, what a picture is called, what it is taken for.

Pictures are uint8 (M, H, W, 3 or 4) or PIL images, drawn on white as pictures: fonts lack emoji. Everything
stands on one Axes in units of one picture, y downwards, so a grid of fifty pictures is drawn at once.
A hit has a green frame, a miss a red one and a badge with a cross, so colour never speaks alone.
"""

from textwrap import fill, shorten

import numpy as np

from ..preprocess import as_pil

# Colours of all figures, which colour-blind readers can tell apart.
RED, GREEN, GREY, BLUE, ORANGE, PURPLE = "#CC3311", "#009E73", "#666666", "#0072B2", "#E69F00", "#AA4499"


def retrieval_grid(queries, pictures, found, right=None, scores=None, title=None, ax=None):
    """One row for each text: the pictures that it found, best first.

    queries: Q texts. found (Q, k): indices into pictures. right (Q, k) bool marks hits and misses;
    scores (Q, k) are printed below. -> Figure.    Raises ValueError when found does not fit.
    """
    found = np.asarray(found)
    if found.ndim != 2 or len(found) != len(queries):
        raise ValueError(f"{len(queries)} queries need as many rows of found pictures, not shape {found.shape}.")
    rows, k = found.shape
    wide, tall = 1.1, 1.12 if scores is None else 1.3
    ax = _canvas(ax, -1.95, k * wide - 0.06, rows * tall, title)
    for row, query in enumerate(queries):
        _write(ax, -0.12, row * tall + 0.5, fill(str(query), 22), 10, ha="right", va="center")
        for i, index in enumerate(found[row]):
            _picture(ax, pictures[index], i * wide, row * tall, None if right is None else bool(right[row][i]))
            if scores is not None:
                _write(ax, i * wide + 0.5, row * tall + 1.05, f"{scores[row][i]:.2f}", 8, ha="center", color=GREY)
    return ax.figure


def prediction_grid(pictures, names, probabilities, answer=None, k=3, columns=3, title=None, ax=None):
    """Each picture with its k likeliest names and a bar for each one's probability.

    probabilities (N, K) over K names; answer (N,): the right ones, or None. The right name is bold and
    green; where it is not among the k, it stands below the picture. -> Figure.
    Raises ValueError when probabilities do not fit pictures and names.
    """
    probabilities = np.asarray(probabilities)
    if probabilities.shape != (len(pictures), len(names)) or not len(pictures):
        given = f"{len(pictures)} pictures (at least one) and {len(names)} names"
        raise ValueError(f"{given} need probabilities of that shape, not {probabilities.shape}.")
    columns = min(columns, len(pictures))
    slot = 1 / 3  # the height of a name and its bar
    wide, tall = 3.15, 0.3 + max(1, k * slot)
    ax = _canvas(ax, -0.06, columns * wide - 0.1, -(-len(pictures) // columns) * tall, title)
    for n, p in enumerate(probabilities):
        x, y = n % columns * wide, n // columns * tall
        best = np.argsort(-p, kind="stable")[:k]
        _picture(ax, pictures[n], x, y, None if answer is None else bool(best[0] == answer[n]))
        for line, index in enumerate(best):
            top, bar = y + line * slot, y + line * slot + 0.19
            hit = answer is not None and index == answer[n]
            style = {"color": GREEN, "weight": "bold"} if hit else {}
            _write(ax, x + 1.12, top, _short(names[index], 26), 8.5, **style)
            ax.barh(bar, 1.45 * p[index], 0.09, left=x + 1.12, color=GREEN if hit else "#8a8a8a")
            _write(ax, x + 1.16 + 1.45 * p[index], bar, f"{100 * p[index]:.0f} %", 7, va="center", color=GREY)
        if answer is not None and answer[n] not in best:
            _write(ax, x, y + 1.05, _short(f"is: {names[answer[n]]}", 44), 8, color=RED)
    return ax.figure


def mistakes_grid(pictures, truth, said, gallery, columns=4, title=None, ax=None):
    """Pictures that were misnamed, each with an arrow to a known picture of the name it was given.

    truth, said: N names for N pictures; gallery: N pictures of what was said. -> Figure.
    """
    counts = [len(given) for given in (pictures, truth, said, gallery)]
    if len(set(counts)) > 1 or not counts[0]:
        given = "{} pictures, {} true names, {} given names and {} gallery pictures".format(*counts)
        raise ValueError(f"{given}: as many of each are needed, at least one.")
    columns = min(columns, len(pictures))
    wide, tall = 2.52, 1.55
    ax = _canvas(ax, -0.06, columns * wide - 0.22, -(-len(pictures) // columns) * tall, title)
    for n in range(len(pictures)):
        x, y = n % columns * wide, n // columns * tall
        _picture(ax, pictures[n], x, y)
        _picture(ax, gallery[n], x + 1.24, y, shade="#dddddd")
        ax.annotate("", (x + 1.22, y + 0.5), (x + 1.0, y + 0.5), arrowprops={"arrowstyle": "->", "color": GREY})
        for middle, name, colour in ((x + 0.5, truth[n], "black"), (x + 1.74, said[n], RED)):
            lines = fill(shorten(str(name), 32, placeholder="…"), 16)
            _write(ax, middle, y + 1.05, lines, 8, ha="center", color=colour)
    return ax.figure


def _canvas(ax, left, right, bottom, title):
    """An empty Axes from (left, 0) to (right, bottom); its own figure has about an inch for a picture."""
    from matplotlib.figure import Figure

    top = -0.42 if title else -0.07
    if ax is None:
        inch = min(1, 10 / (right - left))
        ax = Figure(figsize=(inch * (right - left), inch * (bottom - top)), dpi=100).add_axes((0, 0, 1, 1))
    ax.axis("off")
    # An imshow or a bar would move the limits to itself.
    ax.set(xlim=(left, right), ylim=(bottom, top), aspect="equal", autoscale_on=False)
    if title:
        _write(ax, (left + right) / 2, -0.2, title, 12, ha="center", va="center")
    return ax


def _write(ax, x, y, text, size, **style):
    # A $ in someone's caption is a dollar, not mathematics.
    ax.text(x, y, text, fontsize=size, parse_math=False, **{"va": "top", "color": "black", **style})


def _picture(ax, picture, x, y, right=None, shade=None):
    """A picture with its upper left corner at (x, y), framed as a hit or a miss, or in a neutral shade."""
    from matplotlib.patches import Rectangle

    ax.imshow(np.asarray(as_pil(picture)), extent=(x, x + 1, y + 1, y))
    if right is not None or shade:
        colour = shade or (GREEN if right else RED)
        ax.add_patch(Rectangle((x, y), 1, 1, fill=False, lw=2 if right is not None else 1, ec=colour))
    if right is False:
        ax.plot(x + 0.9, y + 0.1, "o", ms=13, mfc=RED, mec="white", zorder=3)
        ax.plot(x + 0.9, y + 0.1, "x", ms=6, mec="white", mew=2, zorder=4)


def _short(text, length):
    return text if len(text) <= length else text[: length - 1] + "…"
