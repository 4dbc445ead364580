"""Figures of numbers: the curves of a training run, matrices of pairs, Jacobians, and the error of a derivative.

Each takes plain arrays and returns a matplotlib Figure, to save or to show (a notebook says %matplotlib
inline and ends its cell with it); given ax or axes, it draws there. pyplot is never used, so nothing
is shown twice, nothing leaks, and no global setting is touched. matplotlib is imported on first use.
"""

import numpy as np

from ..preprocess import as_pil
from .pictures import BLUE, GREEN, GREY, ORANGE, PURPLE, RED


def loss_curve(log, batch, ax=None):
    """The training loss (nats) over the steps, raw and smoothed, with ln N marked. -> Figure

    log: rows of the machine-readable log (dicts with "step" and "loss"). batch: N, for ln N is the
    loss of a model to which all N texts look alike. A loss that stays there has learned nothing.
    """
    ax = ax or _axes(7, 3.6)
    step, loss = _series(log, "loss")
    chance = float(np.log(batch))
    ax.plot(step, loss, color=BLUE, alpha=0.3, lw=1)
    ax.plot(step, _smooth(loss), color=BLUE, lw=2)
    _mark(ax, chance, f"ln N = ln {batch} = {chance:.2f}, the loss of guessing")
    ax.set_ylim(0, 1.12 * max(chance, loss.max()))
    return _finish(ax, "Contrastive loss", "step", "loss (nats)")


def accuracy_curve(log, ax=None):
    """Zero-shot top-1 accuracy (%) over the steps, a line for each evaluation in the log. -> Figure

    log: rows with "step" and eval/<name>/top1; where there is eval/<name>/chance, it is drawn dotted.
    """
    ax = ax or _axes(7, 3.6)
    names = sorted({key[5:-5] for row in log for key in row if key.startswith("eval/") and key.endswith("/top1")})
    if not names:
        raise ValueError("The log holds no evaluation: no row has a key eval/<name>/top1.")
    for i, name in enumerate(names):
        step, top1 = _series(log, f"eval/{name}/top1")
        style = {"color": (BLUE, ORANGE, GREEN, PURPLE)[i % 4], "lw": 1.8}
        chance = next((row[f"eval/{name}/chance"] for row in log if f"eval/{name}/chance" in row), None)
        if chance is not None:
            ax.axhline(100 * chance, ls=":", **style)
        label = name if chance is None else f"{name} (dotted: chance, {100 * chance:.2g} %)"
        ax.plot(step, 100 * top1, marker="osD^"[i % 4], ms=4.5, label=label, **style)
    ax.set_ylim(0, 1.05 * ax.get_ylim()[1])
    ax.legend(frameon=False, fontsize=9)
    return _finish(ax, "Zero-shot accuracy", "step", "top-1 accuracy (%)")


def temperature_curve(log, axes=None):
    """τ = exp(−logit_scale) over the steps, above the gradient ∂loss/∂logit_scale that moves it. -> Figure

    log: rows with "step", "logit_scale" and "d_logit_scale".    axes: two Axes, or None.
    """
    axes = _axes(7, 5, 2, sharex=True) if axes is None else axes
    step, scale = _series(log, "logit_scale")
    tau = np.exp(-scale)
    low, high = 0.8 * min(0.01, tau.min()), 1.25 * tau.max()
    ticks = [t for t in (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.2, 0.5, 1) if low < t < high]
    axes[0].semilogy(step, tau, color=BLUE, lw=2)
    axes[0].set_ylim(low, high)
    axes[0].set_yticks(ticks, [f"{t:g}" for t in ticks])
    axes[0].minorticks_off()
    _mark(axes[0], 0.01, "bound: τ = 1/100")
    _finish(axes[0], "Temperature", "", "τ (log scale)")

    step, gradient = _series(log, "d_logit_scale")
    axes[1].axhline(0, color=GREY, lw=1)
    axes[1].plot(step, gradient, color=PURPLE, alpha=0.3, lw=1)
    axes[1].plot(step, _smooth(gradient), color=PURPLE, lw=2)
    return _finish(axes[1], "Its gradient (below 0: the loss asks for a smaller τ)", "step", "∂loss/∂ ln(1/τ)")


def similarity_matrices(before, after, names=None, pictures=None, axes=None):
    """Cosines of N pictures (rows) and N texts (columns), before and after training. -> Figure

    before, after (N, N): both on one colour scale, from the least value of all to the greatest.
    names: the N texts, and pictures: N of them, uint8 or PIL: stand along the sides where N ≤ 16 leaves room.
    axes: two Axes, or None.    Raises ValueError unless both are square and of one size.
    """
    before, after = np.asarray(before), np.asarray(after)
    if before.shape != after.shape or before.ndim != 2 or before.shape[0] != before.shape[1]:
        raise ValueError(f"Two square matrices of one size are needed, not {before.shape} and {after.shape}.")
    axes = _axes(9.5, 4.8 if names is None else 5.6, 1, 2, layout="compressed") if axes is None else axes
    low, high = min(before.min(), after.min()), max(before.max(), after.max())
    true = np.eye(len(before), dtype=bool)
    for ax, cosine, title in zip(axes, (before, after), ("before training", "after training")):
        image = ax.imshow(cosine, vmin=low, vmax=high, cmap="cividis")
        others = f", others {cosine[~true].mean():.2f}" if len(cosine) > 1 else ""
        ax.set_title(f"{title}\nmean of pairs {cosine[true].mean():.2f}{others}", fontsize=10)
        _sides(ax, len(cosine), names, pictures)
    axes[0].figure.colorbar(image, ax=list(axes), shrink=0.8, pad=0.02).set_label("cosine similarity")
    return axes[0].figure


def gradient_matrices(similarity, probability, gradient, names=None, pictures=None, axes=None):
    """S, P and G = ∂loss/∂S side by side, each (N, N): rows are pictures, columns are texts. -> Figure

    G has colours symmetric about zero: a step of descent raises what is blue and lowers what is red.
    Its sum is printed, and is zero: what the loss gives to some pairs it takes from others.
    names, pictures: as in similarity_matrices.    axes: three Axes, or None.
    """
    from matplotlib.ticker import MaxNLocator

    axes = _axes(9.8, 4.1 if names is None else 5, 1, 3, layout="compressed") if axes is None else axes
    limit = float(np.abs(gradient).max()) or 1.0
    title = f"G = ∂loss/∂S,  ΣG = {np.sum(gradient):.0e}"
    panels = (
        (similarity, "S = cosine / τ", "cividis", None, None, "similarity"),
        (probability, "P = softmax of each row of S", "Purples", 0, 1, "probability"),
        (gradient, title, "RdBu_r", -limit, limit, "descent raises blue, lowers red"),
    )
    for ax, (matrix, title, colours, low, high, label) in zip(axes, panels):
        image = ax.imshow(matrix, cmap=colours, vmin=low, vmax=high)
        ax.set_title(title, fontsize=10)
        _sides(ax, len(matrix), names, pictures)
        bar = ax.figure.colorbar(image, ax=ax, orientation="horizontal", shrink=0.9, pad=0.04, ticks=MaxNLocator(4))
        bar.set_label(label, fontsize=9)
    return axes[0].figure


def jacobian(both, axes=None):
    """∂y/∂x as backward claims it, as the forward pass has it, and their difference. -> Figure

    both: what gradcheck.jacobians gives of one array. Rows are the entries of y, columns those of x. All on one scale
    of colours; a small difference is multiplied by a power of ten, and its worst entry framed.    axes: three Axes.
    """
    from matplotlib.patches import Rectangle
    from matplotlib.ticker import MaxNLocator

    rows, columns = both.claimed.shape
    axes = _axes(10.5, 4.2 if rows > columns / 2 else 3.2, 1, 3, layout="constrained") if axes is None else axes
    limit = max(np.abs(both.claimed).max(), np.abs(both.numeric).max()) or 1.0
    difference = both.claimed - both.numeric
    apart = np.abs(difference).max()
    is_seen = apart > 1e-9 * limit  # else it is rounding
    zoom = 10 ** int(np.log10(limit / apart)) if is_seen else 1
    times = f" × {zoom:,}" if zoom > 1 else ""
    panels = (
        (both.claimed, "claimed by backward"),
        (both.numeric, f"by the forward pass ({both.method})"),
        (difference * zoom, f"difference{times} (at most {apart:.2g})"),
    )
    for ax, (matrix, title) in zip(axes, panels):
        shape = "equal" if 1 / 3 < rows / columns < 3 else "auto"
        image = ax.imshow(matrix, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect=shape, interpolation="nearest")
        ax.set_title(title, fontsize=10)
        ax.set_xlabel(_entries(both.names[1], both.shape_in), parse_math=False)
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    axes[0].set_ylabel(_entries(both.names[0], both.shape_out), parse_math=False)
    axes[0].figure.colorbar(image, ax=list(axes), shrink=0.8, pad=0.02).set_label("∂y / ∂x")
    if is_seen:
        row, column = both.worst
        axes[2].add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, ec=ORANGE, lw=2, clip_on=False))
    return axes[0].figure


def _entries(name, shape):
    """The label of an axis of a Jacobian."""
    return f"entries of {name}, {' × '.join(map(str, shape))}" if shape else name


def v_curve(curves, title="Error of a derivative against its step", ax=None):
    """Relative error against step for each way of deriving, with the lowest point of each marked. -> Figure

    curves: {method: (steps, errors)}, as gradcheck.v_curve gives.
    """
    ax = ax or _axes(8, 4.4)
    for (method, (steps, errors)), color, marker in zip(curves.items(), (PURPLE, BLUE, ORANGE, GREEN, RED), "osD^v"):
        errors = np.where(np.isfinite(errors), np.maximum(errors, 1e-17), np.nan)
        as_good = errors <= max(np.nanmin(errors), np.finfo(float).eps)
        lowest = np.flatnonzero(as_good)[-1]  # the longest of such steps
        label = f"{method}: {errors[lowest]:.0e} at h = {steps[lowest]:.0e}"
        ax.plot(steps, errors, color=color, lw=1.6, label=label)
        ax.plot(steps[lowest], errors[lowest], marker, color=color, ms=8, clip_on=False, zorder=3)
    _mark(ax, np.finfo(float).eps, "rounding in float64", GREY)
    ax.set(xscale="log", yscale="log", ylim=(3e-18, 30))
    ax.legend(frameon=False, fontsize=9, title="lowest error", title_fontsize=9, loc="upper left")
    return _finish(ax, title, "step h", "relative error")


def _axes(width, height, rows=1, columns=1, layout="constrained", **shared):
    """Axes of a new Figure (inches) that pyplot does not know."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=100, layout=layout).subplots(rows, columns, **shared)


def _finish(ax, title, x, y):
    ax.set_title(title, loc="left", fontsize=11)
    ax.set(xlabel=x, ylabel=y)
    ax.grid(alpha=0.25, lw=0.6)
    ax.spines[["top", "right"]].set_visible(False)
    ax.margins(x=0.01)
    return ax.figure


def _mark(ax, y, text, color=RED):
    """A dashed level with its meaning written above the right end."""
    ax.axhline(y, color=color, lw=1.2, ls="--")
    place = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "ha": "right", "va": "bottom"}
    ax.annotate(text, (1, y), (-4, 4), color=color, fontsize=9, **place)


def _sides(ax, n, names, pictures):
    """Pictures beside the rows and names below the columns of a matrix."""
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    ax.set(xticks=[], yticks=[])
    if names is not None and n <= 16:
        words = [name if len(name) < 22 else name[:20] + "…" for name in names]
        ax.set_xticks(range(n), words, fontsize=8, rotation=90, parse_math=False)
        ax.tick_params(length=0)
    else:
        ax.set_xlabel("text")
    if pictures is None or n > 16:
        ax.set_ylabel("picture")
        return
    size = 0.8 * ax.get_position().height * ax.figure.get_figheight() * 72 / n  # points
    for i, picture in enumerate(map(as_pil, pictures)):
        box = OffsetImage(np.asarray(picture), zoom=size / picture.height)
        ax.add_artist(AnnotationBbox(box, (-0.5, i), (-0.6 * size, 0), boxcoords="offset points", frameon=False))


def _series(log, key):
    """Steps and finite values of the rows that hold `key`, in order; of a step logged twice, the last."""
    values = {row["step"]: row[key] for row in log if row.get(key) is not None and np.isfinite(row[key])}
    if not values:
        raise ValueError(f"The log holds no finite {key!r}.")
    return np.array(sorted(values)), np.array([values[step] for step in sorted(values)], float)


def _smooth(y):
    """The running mean over a twentieth of the points, of fewer at the ends."""
    half = len(y) // 40
    total = np.concatenate([[0], np.cumsum(y)])
    i = np.arange(len(y))
    low, high = np.maximum(i - half, 0), np.minimum(i + half + 1, len(y))
    return (total[high] - total[low]) / (high - low)
