# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown] tags=["slide"]
# # 11 · Zero-shot, honestly
#
# *Goal:* you can measure what a CLIP can do, say how sure the measurement is, and notice when a number flatters.
# *Needs:* notebooks 3 and 8. *Time:* about 90 minutes.
# *Mirrors:* [evaluation](../miniclip/evaluation), that is [zeroshot.py](../miniclip/evaluation/zeroshot.py), [retrieval.py](../miniclip/evaluation/retrieval.py) and [linear_probe.py](../miniclip/evaluation/linear_probe.py).
#
# An ordinary classifier knows the classes that it was trained on. CLIP has a sphere on which pictures and texts meet, so any list of words can be its classes. That is what made it famous, and it is easy to be proud of. But **a number alone says nothing.** It answers one question, beside other answers that were possible, and with so many examples and no more. In this notebook each number gets its company: an opponent, an interval, a question.

# %%
# %matplotlib inline
import numpy as np
from matplotlib.figure import Figure

import miniclip
from miniclip import encode_image, plots
from miniclip.course import exercise, grade, put_in, take_out
from miniclip.data import emoji_data, emoji_names
from miniclip.evaluation import (
    evaluate,
    linear_probe,
    nearest_pixel_baseline,
    pixel_rows,
    prompt_features,
    retrieval,
)
from miniclip.layers import l2_normalize, softmax
from miniclip.preprocess import normalize

clip = miniclip.load("emoji")  # or the file of one that you trained
training, exams = emoji_data()
exam = exams[0]
print(f"trained on {len(training)} pictures by {', '.join(training.styles)}")
print(f"{exam.name}: {len(exam)} pictures, {len(exam.names)} names to choose from")

# %% [markdown]
# ## 1. A classifier made of words
#
# The exam: drawings by Fluent, an artist of whom the training had not one picture. Embed the pictures, embed the names. Whichever name is nearest to a picture is the answer:
#
# $$\hat k = \arg\max_k\; z^I \cdot z^T_k$$
#
# **Predict.** How many of the pictures does it name rightly, out of so many names? And how many would somebody name who has no model at all, but keeps all training pictures, looks for the one that agrees best *pixel by pixel*, and copies its name?

# %%
images = clip.encode_image(exam.pictures)
names = clip.encode_text(exam.names)


def answers(classes):
    """1.0 for each picture whose nearest class is the right one, else 0.0."""
    return ((images @ classes.T).argmax(1) == exam.answer).astype(float)


pixels = nearest_pixel_baseline(training, exam)
bare = answers(names)
print(f"CLIP, by the bare name       {bare.mean():6.1%}")
print(f"nearest picture, by pixels   {pixels:6.1%}")
print(f"chance                       {1 / len(exam.names):6.2%}")

# %% tags=["numbers"]
assert 0.3 < bare.mean() < 0.95 and 0.25 < pixels < 0.4 and bare.mean() > pixels

# %% [markdown] tags=["answer"]
# Beside chance it looks like magic, and beside the pixels much less so. Artists copy each other's emoji, down to the pose; so much of this exam can be passed by looking alike. (The opponent has to carry all training pictures about, and where it has no picture of a thing it can say nothing.) Both numbers are true. **Whoever reports the first with chance alone beside it tells the truth and misleads.** Look for the strongest opponent that is cheap.

# %% [markdown] tags=["slide"]
# ## 2. Many prompts, one class
#
# A class is a text, and there are many ways to put it: *a drawing of a guitar*, *the guitar emoji*. So CLIP embeds a name in several prompts, and takes the mean. The mean of points on a sphere lies inside it, so it is put on the sphere again:
#
# $$z_k = \frac{m_k}{|m_k|} \qquad m_k = \frac1P \sum_{p=1}^P z^T_{p,k}$$
#
# However many prompts go in, one vector for each class comes out.
#
# **Write** it. You may use `l2_normalize`.


# %% tags=["exercise"]
@exercise("ensemble")
def ensemble(features):
    """Unit rows (P, K, E), of K names in P prompts -> unit rows (K, E), one a name."""
    ### BEGIN SOLUTION
    mean = features.mean(0)
    return l2_normalize(mean)[0]
    ### END SOLUTION


grade(ensemble)

# %% [markdown]
# **Look.** Eight prompts. The first three stand in the captions of the training, and the others the model has never read.
#
# **Predict.** To us, *a drawing of* and *my favourite* say nothing of what the thing is. To the model?

# %%
prompts = [*exam.templates, "{}!", "the {} emoji", "my favourite {}"]
prompts += ["see my {}", "{} and a cat"]
read = [prompt in training.templates for prompt in prompts]
features = prompt_features(clip, exam.names, prompts)
alone = {prompt: answers(f) for prompt, f in zip(prompts, features)}
classes = ensemble(features[read])
together = answers(classes)
for prompt, known in zip(prompts, read):
    print(f"{prompt:30}{alone[prompt].mean():7.1%}   {'' if known else 'never read'}")
everything = answers(ensemble(features))
print(f"{'the ones it read':30}{together.mean():7.1%}")
print(f"{'all':30}{everything.mean():7.1%}")

# %% tags=["numbers"]
assert sum(read) == 3 and read[:3] == [True] * 3
by_prompt = np.array([right.mean() for right in alone.values()])
known, strange = by_prompt[:3], by_prompt[3:]
assert strange.max() < known.min()
assert 0.2 < known.min() - strange.min() < 0.3
assert np.ptp([*known, together.mean()]) < 0.01
assert 0.005 < together.mean() - everything.mean() < 0.02

# %% [markdown] tags=["answer"]
# Wording matters more than one likes. Every phrase moves every name, and one that was never read may cost a point, or nearly thirty. The three that stand in captions lie within a point of each other, and so does their ensemble. With the strange ones in it, the ensemble loses about a point. So *add prompts and gain some points* is no law: **the best prompts look like the captions of the training.** Which these are can be known without a look at the exam. We use the ensemble of those that it read from here on.

# %% [markdown] tags=["slide"]
# ## 3. How sure is a number?
#
# Fluent could have drawn other things, or the same things on another day, and the exam would have had another result. How different? We have one exam only. The *bootstrap* (Efron 1979) makes many out of it: draw as many questions as there are, each time from all of them, so that some come twice and some not at all. Each such exam has a result, a mean. Between which two numbers lie 95 % of the results?
#
# **Predict.** With about 1,600 questions, how wide is that: a tenth of a point, one point, five points?
#
# **Write** it. `draws` holds the numbers of the drawn questions, a row for each exam. So anybody with the same draws gets the same interval.


# %% tags=["exercise"]
@exercise("interval")
def interval(right, draws, level=0.95):
    """Between which two numbers lie `level` of the means of B exams, in the middle?

    right (N,): one number for each answer; draws (B, N): questions. -> low, high
    """
    ### BEGIN SOLUTION
    means = right[draws].mean(1)
    outside = (1 - level) / 2
    return np.quantile(means, outside), np.quantile(means, 1 - outside)
    ### END SOLUTION


grade(interval)

# %%
count = len(exam)
draws = np.random.default_rng(0).integers(0, count, (1000, count))
mixed = classes.copy()
some = np.random.default_rng(1).permutation(count)[:60]
mixed[some] = classes[some[::-1]]  # 30 pairs of names, exchanged
kinds = {"bare name": bare, "the ones it read": together}
kinds["60 names mixed up"] = answers(mixed)
bounds = {name: interval(right, draws) for name, right in kinds.items()}
for name, (low, high) in bounds.items():
    print(f"{name:26}{kinds[name].mean():7.1%}    from {low:.1%} to {high:.1%}")

# %% tags=["numbers"]
assert all(0.02 < high - low < 0.06 for low, high in bounds.values())
assert bounds["60 names mixed up"][1] > bounds["the ones it read"][0]

# %% [markdown]
# Some four or five points, from end to end. So a decimal place in such a number is decoration, and of two models that are one point apart, each on an exam of its own, nobody knows which is better.
#
# Compare the last two rows. In the last one a careless program has exchanged 30 pairs of names, so that 60 classes stand for something else.
#
# **Predict.** The two intervals overlap. May one say that something has become worse?

# %%
first, second = kinds["the ones it read"], kinds["60 names mixed up"]
low, high = interval(first - second, draws)
print(f"difference {first.mean() - second.mean():.1%}, from {low:.1%} to {high:.1%}")
changed = (first != second).mean()
print(f"the two differ in {changed:.1%} of the answers.")

# %% tags=["numbers"]
assert low > 0 and first.mean() > second.mean() and changed < 0.1

# %% [markdown] tags=["answer"]
# One may. Both took the *same* exam, and agree in nearly all of the answers. A hard exam is hard for both, and that common part cancels in the difference. Give your `interval` the difference of the answers, question by question, and it does not contain 0. Two overlapping intervals do not say that there is no difference; the interval of the *difference* says.

# %% [markdown]
# ### The best of sixty
#
# Here are sixty variants of our classes, each made by shaking them a little at random. None of them knows anything that the others do not. We choose the best, on 100 questions.
#
# **Predict.** It is better than the mean of the sixty, by some points. How good will it be on the other questions?

# %%
rng = np.random.default_rng(0)
order = rng.permutation(count)
chosen_on, others = order[:100], order[100:]
results = []
for _ in range(60):
    noise = l2_normalize(rng.standard_normal(classes.shape))[0]
    right = answers(l2_normalize(classes + 0.4 * noise)[0])
    results.append((right[chosen_on].mean(), right[others].mean()))
results = np.array(results)
best = results[results[:, 0].argmax()]
print(
    f"mean of the sixty:  {results[:, 0].mean():.1%}, others {results[:, 1].mean():.1%}"
)
print(f"best of the sixty:  {best[0]:.1%}, others {best[1]:.1%}")

# %% tags=["numbers"]
assert best[0] > results[:, 0].mean() + 0.02
assert abs(best[1] - results[:, 1].mean()) < 0.03

# %% [markdown] tags=["answer"]
# About as good as the mean of them. Its lead was luck with these 100 questions, and luck does not travel. Nobody does this on purpose. But a prompt, a temperature, the step at which training stops: each that is chosen by a look at the exam is such a choice. So what is chosen is chosen on *other* questions than those which are reported. (That is what `emoji_data(hold_out_style="twemoji")` is for: choose with another artist held out, and look at Fluent last.)

# %% [markdown] tags=["slide"]
# ## 4. The rank of the right one
#
# *R@k* asks whether the right one is among the first $k$. For that one needs its *rank*: 1, plus the number of wrong ones that stand before it.
#
# **Predict.** A model has collapsed: whatever it is shown, it gives the same embedding. What is its R@1, if the rank is 1 plus the number of wrong ones whose score is *larger*?

# %%
same = np.tile(names[:1], (len(names), 1))  # one embedding for all
scores = images @ same.T
own = np.take_along_axis(scores, exam.answer[:, None], 1)
rank = 1 + (scores > own + 1e-6).sum(1)
print(f"R@1 of a model that knows nothing: {(rank == 1).mean():.0%}")

# %% tags=["numbers"]
assert (rank == 1).all()

# %% [markdown] tags=["answer"]
# All right: no score is larger than that of the right one. It is no joke. It happens whenever a training diverges and somebody looks at the exam alone. So **ties count against the model**: who scores as high as the right one stands before it. And two scores that differ only by rounding are a tie as well; a float32 encoder repeats itself only to about $10^{-6}$.

# %% [markdown]
# **Write** it. In a row there may be several right candidates, as where a picture has five captions. Then the best of them counts, and the others are not in its way.


# %% tags=["exercise"]
@exercise("ranks")
def ranks(scores, right):
    """The rank, 1 or more, of the best right candidate of each row.

    scores (N, K); right (N, K) bool -> (N,). A wrong one that scores higher, the same,
    or less by no more than 1e-6 stands before it.
    """
    ### BEGIN SOLUTION
    best = np.where(right, scores, -np.inf).max(1, keepdims=True)
    return 1 + ((scores >= best - 1e-6) & ~right).sum(1)
    ### END SOLUTION


grade(ranks)

# %% [markdown]
# **Look**, with yours in the library. Each picture has one name here, and each name one picture. From picture to name, the model chooses among all names; from name to picture, among all pictures.
#
# **Predict.** It is the same matrix of cosines, once by its rows and once by its columns. Is R@1 the same?

# %%
picture_of = np.argsort(exam.answer)  # the one picture of each name
with put_in(ranks):
    measured = retrieval(images[picture_of], classes)
    official = evaluate(clip, exam)
for direction, row in measured.items():
    shares = "   ".join(f"{key} {row[key]:.1%}" for key in ("R@1", "R@5", "R@10"))
    print(f"{direction.replace('_', ' '):16}{shares}")
print(f"and `evaluate` says {official['ensemble_top1']:.1%} for the ensemble.")
given = np.bincount((images @ classes.T).argmax(1), minlength=len(exam.names))
print(f"{(given == 0).sum()} names are never given as an answer,")
print(f"and one is given to {given.max()} pictures: {exam.names[given.argmax()]}.")

# %% tags=["numbers"]
forward, backward = (row["R@1"] for row in measured.values())
assert backward > forward + 0.01 and abs(forward - together.mean()) < 0.005
assert abs(official["ensemble_top1"] - forward) < 0.005
assert given.max() >= 4 and (given == 0).sum() > 100

# %% [markdown] tags=["answer"]
# No. Asked for a name, the model has favourites: a few names lie near to everything that this artist draws, and take pictures that belong to others. Such names are called *hubs*. Asked for a picture, all pictures are compared with one and the same name, and what advantage a hub has, all of them have. So say which way the question went.

# %% [markdown] tags=["slide"]
# ## 5. Does it know what it knows?
#
# The softmax of the scores, $p = \operatorname{softmax}(s\, z^I z_k^T)$, looks like a probability. Is it one? Of all answers that are given with 80 %, 80 % should be right. To see it, sort the answers by how sure the model was, cut them into parts of equal size, and compare in each part the mean confidence with the share that is right. Drawn, that is a *reliability diagram*. The mean gap, over all answers, is the *expected calibration error*:
#
# $$\text{error} = \sum_b \frac{n_b}{N}\; \big|\, \text{confidence}_b - \text{share}_b \,\big|$$
#
# **Write** it. `np.array_split` cuts into parts whose sizes differ by one at most; each *answer* is to weigh the same. (The library's `calibration` cuts the confidence itself into parts of equal width, as is done most often; then a part may hold three answers, or none.)


# %% tags=["exercise"]
@exercise("reliability")
def reliability(confidence, right, bins):
    """From the least sure to the surest, in `bins` parts with equally many answers.

    confidence (N,), right (N,) -> confidence (bins,), share right (bins,), error
    """
    ### BEGIN SOLUTION
    parts = np.array_split(np.argsort(confidence, kind="stable"), bins)
    sure = np.array([confidence[part].mean() for part in parts])
    share = np.array([right[part].mean() for part in parts])
    weight = np.array([len(part) for part in parts]) / len(right)
    return sure, share, (weight * np.abs(sure - share)).sum()
    ### END SOLUTION


grade(reliability)

# %% [markdown]
# The model learned $s$ while it trained. It can be changed afterwards: one number, chosen so that the right names get the largest probability, is called *temperature scaling* (Guo et al. 2017). We choose it on one half of the questions, and look at the other half.
#
# **Predict.** Is the model too sure of itself with its own $s$, or not sure enough? What if $s$ were 100, the largest that CLIP allows itself? And how does another $s$ change the share of right answers?

# %%
to_choose, to_report = np.split(np.random.default_rng(0).permutation(count), 2)
cosines = images @ classes.T


def surprise(s, some):
    """−ln p of the right name, the mean."""
    p = softmax(s * cosines[some])[0]
    return -np.log(p[np.arange(len(some)), exam.answer[some]]).mean()


learned = float(np.exp(clip.params["logit_scale"]))
candidates = np.linspace(5, 100, 96)
chosen = candidates[np.argmin([surprise(s, to_choose) for s in candidates])]
right = together[to_report]
curves = {}
scales = {"100": 100, "as learned": learned, "chosen on the other half": chosen}
for name, s in scales.items():
    confidence = softmax(s * cosines[to_report])[0].max(1).astype(float)
    curves[name] = confidence, *reliability(confidence, right, 10)
    print(f"{name:26} s = {s:4.0f}   confidence {confidence.mean():.1%}", end="")
    print(f"   right {right.mean():.1%}   error {curves[name][-1]:.3f}")

# %% alt="Share of right answers against confidence, ten points each with an error bar, for three scales. With 100 the points lie far below the dashed diagonal, most of them at the right edge. With the learned scale they lie below it by less, with the chosen one along it, and most of its error bars reach it." tags=["slide", "output"]
figure = Figure(figsize=(5.6, 5), layout="constrained")
ax = figure.subplots()
ax.plot([0, 100], [0, 100], ls="--", color=plots.GREY, lw=1)
beyond = {}
for (name, (confidence, sure, share, _)), colour in zip(
    curves.items(), (plots.PURPLE, plots.ORANGE, plots.BLUE)
):
    parts = np.array_split(np.argsort(confidence, kind="stable"), 10)
    some = np.random.default_rng(0)
    ends = np.array(
        [
            interval(right[part], some.integers(0, len(part), (1000, len(part))))
            for part in parts
        ]
    )
    beyond[name] = ((sure < ends[:, 0]) | (sure > ends[:, 1])).sum()
    bars = 100 * np.abs(ends.T - share)
    ax.errorbar(
        100 * sure, 100 * share, bars, fmt="o-", color=colour, capsize=3, label=name
    )
ax.set(xlabel="how sure the model is (%)", ylabel="how often it is right (%)")
ax.set(xlim=(0, 103), ylim=(0, 103), aspect="equal")
ax.legend(frameon=False, loc="upper left")
ax.spines[["top", "right"]].set_visible(False)
figure

# %% tags=["numbers"]
errors = [curve[-1] for curve in curves.values()]
assert errors[0] > 0.15 > 0.1 > errors[1] > errors[2] and 4 < learned - chosen < 12
assert curves["100"][0].mean() > right.mean() + 0.15
assert 0.04 < curves["as learned"][0].mean() - right.mean() < 0.09
assert abs(curves["chosen on the other half"][0].mean() - right.mean()) < 0.03
assert beyond["100"] > 6 > beyond["chosen on the other half"]

# %% [markdown] tags=["answer"]
# With 100 it is much too sure. With its own $s$ it is too sure by some points, and with the one that the other half of the questions chose it is right about as often as it says. The model learned $s$ for the pictures of its training, which it knew well in the end; an artist whom it has never seen is harder, and nobody told it. The better a model knows its training pictures by heart, the wider is that gap. The answers themselves stay as they are, for a factor does not change which score is the largest. So *accuracy* and *calibration* are two different questions, and the second one can be repaired for nothing. Note what the error bars are for: some eighty answers stand behind each point, and a gap of five points there may be nothing.

# %% [markdown] tags=["slide"]
# ## 6. What the pictures know: a linear probe
#
# Zero-shot asks both encoders. A *linear probe* asks the image encoder alone: keep its features $x$ as they are, and train a softmax on them, with the labels of some classes that it was never told about. Little can go wrong in that training, for the loss is convex and has one minimum:
#
# $$z = x W^\top + b \qquad L = -\frac1N \sum_i \ln p_{i, y_i} + \frac{l_2}{2} \sum W^2 \qquad p = \operatorname{softmax}(z)$$
#
# The gradient of the first part you know from notebook 8: the probability less the truth, over $N$. Call it $dz$. Going back through $z = xW^\top + b$ as in notebook 2, and adding the slope of the second part:
#
# $$dW = dz^\top x + l_2 W \qquad db = \sum_i dz_i$$
#
# The bias is not in the second part.
#
# **Write** loss and gradient. Both parameters come in one array, $w = [W\; b]$.


# %% tags=["exercise"]
@exercise("probe_loss")
def probe_loss(w, x, y, l2):
    """The loss L, a number, and its gradient, of the shape of w.

    w (K, E+1), its last column the bias; x (N, E); y (N,) integers 0 … K−1
    """
    ### BEGIN SOLUTION
    rows, weight, bias = np.arange(len(x)), w[:, :-1], w[:, -1]
    z = x @ weight.T + bias
    z = z - z.max(1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(1, keepdims=True))
    loss = -log_p[rows, y].mean() + l2 / 2 * (weight * weight).sum()

    dz = np.exp(log_p)
    dz[rows, y] -= 1
    dz = dz / len(x)
    gradient = np.concatenate([dz.T @ x + l2 * weight, dz.sum(0)[:, None]], 1)
    return float(loss), gradient
    ### END SOLUTION


grade(probe_loss)

# %% [markdown]
# **Look.** The classes are the groups of the emoji standard: food and drink, animals and nature, and so on. The probe learns from a few drawings by Noto, whom the model knows, and is examined on Fluent, with your `probe_loss` in the library. A second probe has raw pixels for features: it is the opponent. Zero-shot needs no labels: a group is the ensemble of the names in it.
#
# **Predict.** From how many labelled pictures of each group on is the probe better than zero-shot?

# %% alt="Accuracy against the number of labelled pictures of each group, with error bars over five draws. The probe on CLIP's features begins below the dashed line of zero-shot, crosses it, and ends above. The probe on raw pixels ends far below." tags=["slide", "output"]
group_of = {entry["name"]: entry["group"] for entry in emoji_names()}
groups = sorted({group_of[name] for name in exam.names})
label = np.array([groups.index(group_of[name]) for name in exam.names])
by_noto = np.flatnonzero(training.style == training.styles.index("noto"))
called = [training.captions[training.concept[m]][0] for m in by_noto]
asked = set(exam.names)
known_label = np.array([groups.index(group_of[n]) for n in called if n in asked])
known = training.pictures[[m for m, n in zip(by_noto, called) if n in asked]]
probes = {
    "probe on CLIP's features": (clip.encode_image(known), images, plots.BLUE),
    "probe on raw pixels": (
        pixel_rows(known, 16),
        pixel_rows(exam.pictures, 16),
        plots.ORANGE,
    ),
}
shots, learnt = [1, 2, 4, 8, 16, 32, 64], {}
put_in(probe_loss)
for name, (train_x, test_x, _) in probes.items():
    rng, learnt[name] = np.random.default_rng(0), np.zeros((5, len(shots)))
    for k in range(5):
        lot = [rng.permutation(np.flatnonzero(known_label == g)) for g in range(8)]
        for j, shot in enumerate(shots):
            few = np.concatenate([members[:shot] for members in lot])
            result = linear_probe(
                train_x[few], known_label[few], test_x, label[exam.answer], l2=1e-3
            )
            learnt[name][k, j] = result["accuracy"]
take_out()
by_words = l2_normalize(np.stack([classes[label == g].mean(0) for g in range(8)]))[0]
zero_shot = ((images @ by_words.T).argmax(1) == label[exam.answer]).mean()

figure = Figure(figsize=(7, 4), layout="constrained")
ax = figure.subplots()
for name, (*_, colour) in probes.items():
    mean, spread = 100 * learnt[name].mean(0), 100 * learnt[name].std(0)
    ax.errorbar(shots, mean, spread, fmt="o-", capsize=3, color=colour, label=name)
ax.axhline(100 * zero_shot, color=plots.GREEN, ls="--", label="zero-shot, no labels")
largest = np.bincount(label).max() / len(label)
ax.axhline(100 * largest, color=plots.GREY, ls=":", label="always the largest group")
ax.set(xscale="log", xlabel="labelled pictures of each group", ylabel="right (%)")
ax.set(ylim=(0, 100))
ax.set_xticks(shots, shots)
ax.minorticks_off()
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False, fontsize=9, loc="upper left", ncols=2)
figure

# %% tags=["numbers"]
ours, theirs = (curve.mean(0) for curve in learnt.values())
assert len(groups) == 8 and ours[0] < zero_shot < ours[-1]
assert (ours > theirs)[2:].all() and ours[-1] > theirs[-1] + 0.1

# %% [markdown] tags=["answer"]
# The curve crosses the dashed line where the figure shows it: with one picture of each group the words are better, for they have seen thousands of captions, and with dozens the probe is. It may draw its line where *this* question needs it, while the words of a group lie where the captions have put them. The error bars are the spread over five draws of the labelled pictures. With one picture of each group, what is measured is mostly the luck of the draw.

# %% [markdown] tags=["slide"]
# ## 7. Looking inside
#
# The backward pass goes down to the pixels, if it is asked to: `backward(d, input_gradient=True)`. So we can ask which pixels the cosine of a picture with its name depends on. And we can walk uphill, from a nearly white sheet, to a picture that the model takes for a *cat face*, more than the real one.
#
# **Predict.** What will that picture look like?

# %% alt="Three columns: cat face, guitar, red heart. First row: the artist's drawings. Second: where their gradient is large, grey spots, some of them where one would look and others in places without a meaning. Third: pictures made by ascending, which look like coloured noise. Fourth: the same with a smoothed gradient, in which there are patches of colour and lines." tags=["slide", "output"]
words = ["cat face", "guitar", "red heart"]
goals = classes[[exam.names.index(word) for word in words]]
deviation = np.array(clip.config["preprocess"]["std"], np.float32)[:, None, None]


def cosine_and_slope(pixels):
    """Pixels (N, 3, S, S) in 0..1 -> cosine of each with its goal, and its gradient."""
    x = normalize(pixels, clip.config)
    features, backward = encode_image(clip.params, x, clip.config)
    z, onto_sphere = l2_normalize(features)
    d_images, _ = backward(onto_sphere(goals), input_gradient=True)
    return (z * goals).sum(1), d_images / deviation


def smooth(g):
    """The mean of each pixel and its four neighbours."""
    around = [np.roll(g, by, axis) for by in (1, -1) for axis in (2, 3)]
    return (g + sum(around)) / 5


def ascend(smoothings, steps=50, rate=0.02):
    shape = (len(words), 3, *real.shape[2:])
    sheet = np.abs(np.random.default_rng(0).standard_normal(shape))
    pixels = (1 - 0.05 * sheet).astype(np.float32)
    for _ in range(steps):
        _, slope = cosine_and_slope(pixels)
        for _ in range(smoothings):
            slope = smooth(slope)
        length = np.sqrt((slope * slope).mean((1, 2, 3), keepdims=True))
        pixels = np.clip(pixels + rate * slope / length, 0, 1)
    return pixels


where = [
    int(np.flatnonzero(exam.answer == exam.names.index(word))[0]) for word in words
]
rgba = exam.pictures[where].astype(np.float32) / 255
real = (rgba[..., :3] * rgba[..., 3:] + 1 - rgba[..., 3:]).transpose(0, 3, 1, 2)
of_real, slope = cosine_and_slope(real)
saliency = np.abs(slope).max(1, keepdims=True).repeat(3, 1)
saliency = 1 - saliency / saliency.max((1, 2, 3), keepdims=True)
noise, drawn = ascend(0), ascend(2)
rows = {"drawn by Fluent": real, "its gradient": saliency}
rows |= {"uphill": noise, "uphill, smoothed": drawn}

figure = Figure(figsize=(6.4, 7.6), layout="constrained")
cells = figure.subplots(len(rows), len(words))
for line, (title, row) in zip(cells, rows.items()):
    cosine = None if title == "its gradient" else cosine_and_slope(row)[0]
    for k, ax in enumerate(line):
        ax.imshow(row[k].transpose(1, 2, 0))
        ax.set(xticks=[], yticks=[])
        if cosine is not None:
            ax.set_xlabel(f"cosine {cosine[k]:.2f}", fontsize=9)
    line[0].set_ylabel(title)
for ax, word in zip(cells[0], words):
    ax.set_title(word, fontsize=11)
figure

# %% tags=["numbers"]
of_noise, of_drawn = cosine_and_slope(noise)[0], cosine_and_slope(drawn)[0]
assert (of_noise > of_real).all() and (of_drawn > of_real - 0.05).all()

# %% [markdown] tags=["answer"]
# Like noise, and its cosine is higher than that of the real drawing. A high cosine is no proof that the thing is there. (And the second row is no map of what the model looks at. Where it shows what we would look at ourselves, one believes it at once; where it shows spots, one forgets it. It says how the cosine would change with a very small step, as any gradient does.) Among all pictures there are far more that it takes for a cat than there are cats, and a walk uphill finds one of those; the training never showed it such a picture, and so never told it otherwise. If the gradient is smoothed before each step, so that neighbouring pixels move together, the walk keeps to smoother pictures, with lines and patches of colour, and whoever looks long enough makes things out in them. One sees what one was told to look for.

# %% [markdown]
# ## 8. Can it put two known things together?
#
# It has seen firefighters, it has seen women, it has seen dark skin. Of each of 62 kinds of people, two of ten combinations were kept out of the training in every style. Now it sees one of these, and chooses among the ten.

# %%
print(f"{'':32}pictures    right     from      to   gender    tone")
shares = {}
for combination in exams[1:]:
    z = clip.encode_image(combination.pictures) @ clip.encode_text(combination.names).T
    z = np.take_along_axis(z, combination.candidates, 1)
    true = (combination.candidates == combination.answer[:, None]).argmax(1)
    said, n = z.argmax(1), len(true)
    right = (said == true).astype(float)
    low, high = interval(right, np.random.default_rng(0).integers(0, n, (1000, n)))
    gender, tone = (said // 5 == true // 5).mean(), (said % 5 == true % 5).mean()
    shares[combination.name] = right.mean(), low, high, gender, tone
    row = "".join(f"{value:9.1%}" for value in shares[combination.name])
    print(f"{combination.name:32}{n:8}{row}")

# %% tags=["numbers"]
assert all(row[0] > 0.25 and row[1] > 0.15 for row in shares.values())
assert all(row[2] - row[1] > 0.05 for row in shares.values())
assert all(row[3] >= row[4] for row in shares.values())

# %% [markdown]
# Chance is 10 %, and every lower end lies far above it: combinations that were never shown are put together out of parts that were. The gender is right more often than the tone, of which there are five, next to each other. But look at the width of these intervals. With 124 pictures, two artists that are five points apart cannot be told apart.
#
# ## What you know now
#
# **Explain**, in a sentence or two each:
#
# 1. A paper reports 58.3 % for its model and 57.6 % for the old one, on the same 1,586 questions. What do you want to know before you believe in an improvement?
# 2. A classifier is right in 60 % of cases, and its confidence is 60 % on the average. Is it calibrated?
# 3. Somebody tries 40 prompts on the exam and reports the best. What would you have them do?

# %% [markdown] tags=["answer"]
# 1. The interval of the *difference*, question by question. If the two agree in nearly all answers, 0.7 points may be real; if they differ in many, it is nothing. And on what was chosen, and how many were tried.
# 2. Not necessarily: it could be right in 60 % of its sure answers and in 60 % of its unsure ones. Each part has to fit, and not only the mean.
# 3. Choose on other questions, or on another artist, and report the exam once. Or report the mean over all 40, and their spread.

# %% [markdown]
# ## Going on
#
# - **Back onto the sphere.** Leave the last step of `ensemble` out, and look at the interval of the difference. For which prompts does it matter?
# - **A better opponent.** Let CLIP's *image* features find the nearest training picture, and copy its name. Who wins, and what does that say of the text encoder?
# - **Hubs.** Subtract from each name its mean cosine over all pictures of the exam, and take it again. Why does it help? Why would it not be fair to report it?
# - **Fewer names.** How does accuracy grow as the list of names gets shorter? Draw it against the number of candidates, with chance and the intervals beside it.
# - **A picture of your own.** Open one with PIL, and name it with `clip.classify([picture], words)`. To this model, the world is what stands on white.
