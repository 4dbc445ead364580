# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown] tags=["slide"]
# # 7 · Words to tokens
#
# *Goal:* you can learn a vocabulary from texts, encode with it exactly as CLIP does, and say what a larger one buys and costs.
# *Needs:* lists and dictionaries in Python; no gradient in this one. *Time:* about 60 minutes. *Mirrors:* [tokenizer.py](../miniclip/tokenizer.py).
#
# The text encoder reads integers. Somebody has to decide what an integer stands for: a letter, a word, or something between. CLIP does not decide. It *counts*: **what often stands together becomes one.** That is all of byte-pair encoding (Sennrich et al. 2016), and you will have written it in forty lines.

# %%
# %matplotlib inline
import time
from collections import Counter

import numpy as np
from matplotlib.figure import Figure

import miniclip
from miniclip import plots
from miniclip.course import exercise, grade
from miniclip.data import emoji_names
from miniclip.tokenizer import BASE, Tokenizer, spell, words_of

# %% [markdown] tags=["slide"]
# ## 1. Letters, words, or something between
#
# The texts of this notebook are names of emoji and their tags. A fifth of the emoji is put aside: their names are the texts that come later, when the vocabulary has been made.

# %%
catalogue = [e for e in emoji_names() if "skin tone" not in e["name"]]
later = np.random.default_rng(0).random(len(catalogue)) < 0.2
entries = [e for e, aside in zip(catalogue, later) if not aside]
texts = [text for e in entries for text in (e["name"], *e["tags"])]
names = [e["name"] for e in entries]
new_names = [e["name"] for e, aside in zip(catalogue, later) if aside]

frequency = Counter(word for text in texts for word in words_of(text))
unknown = {word for name in new_names for word in words_of(name)} - set(frequency)
print(f"{len(texts):,} texts, {len(frequency):,} different words")
print("the commonest:", ", ".join(word for word, _ in frequency.most_common(12)))
print(
    f"in {len(new_names)} new names, {len(unknown)} words that the texts do not have:"
)
print("   ", ", ".join(sorted(word for word in unknown if word.isascii())[:12]), "…")

# %% tags=["numbers"]
assert len(texts) > 5000 and len(frequency) > 2000 and len(unknown) > 40

# %% [markdown] tags=["more"]
# **Predict.** One integer for each *word*: what does such a model do with a word that it has not met? One for each *letter*: what becomes of the length of a text, and why does an encoder with attention care?

# %% [markdown] tags=["answer"]
# For a new word there is no integer: all of them become the same "unknown", and a name made of unknown words says nothing. With letters nothing is unknown, but a text is five times as long, attention compares all with all, so it costs 25 times as much, and the encoder must first find out what letters mean together. We want both: common words in one piece, and rare ones in pieces.

# %% [markdown]
# ### The bottom: bytes
#
# Letters are not enough, for there are more than 100,000 of them in the world. But a computer writes every text in bytes (UTF-8), and there are 256. So no text is impossible to write. CLIP gives each byte *two* tokens: one within a word, and one, marked `</w>`, that ends a word. Thus `hat` in `hat` and `hat` in `hatch` can become different tokens, and from the tokens one can tell where a space was.
#
# `spell` turns a word into the ids of its bytes, and `BASE` holds the 512 tokens.

# %%
for word in ("hug", "hugs", "müde", "🙂"):
    print(f"{word:6}{spell(word)!s:24}{[BASE[i] for i in spell(word)]}")

# %% [markdown]
# (A byte that is no visible character is shown as some other one, so that a vocabulary can be printed.)
#
# ## 2. The commonest pair
#
# A vocabulary is learned in rounds. In each, count which two tokens stand side by side most often, in all words together. A word that occurs five times counts five times.
#
# Two pairs may be equally common. Then anything would do, but it must always be the *same*, or two computers would learn two vocabularies from one text. We take the pair with the smaller ids.
#
# **Write** it. `words` are lists of ids, and `times` says how often each occurs.


# %% tags=["exercise"]
@exercise("most_common_pair")
def most_common_pair(words, times):
    """The pair of neighbours that is commonest; of those equally common the smallest.

    words: list of lists of int.   times: list of int, how often each word occurs.
    -> ((left, right), count); (None, 0) where no word has two tokens
    """
    ### BEGIN SOLUTION
    counts = Counter()
    for word, n in zip(words, times):
        for pair in zip(word, word[1:]):
            counts[pair] += n
    pair = min(counts, key=lambda pair: (-counts[pair], pair), default=None)
    return pair, counts[pair]
    ### END SOLUTION


grade(most_common_pair)

# %% [markdown] tags=["slide"]
# ## 3. Merge
#
# The commonest pair becomes a new token, and takes its place wherever the two stand.
#
# **Predict.** The pair (a, a), in the words `aa`, `aaa` and `aaaaa`: how many tokens are left in each?

# %% [markdown] tags=["answer"]
# One, two and three: `aa`, `aa a`, `aa aa a`. A token that has been merged is used up, and we look from the left. (The count in section 2 said two pairs for `aaa`. So a count may promise more than a merge can keep. That is a flaw of the method, it is rare, and all do it alike.)

# %% [markdown]
# **Write** it.


# %% tags=["exercise"]
@exercise("merge")
def merge(ids, pair, new):
    """A new list: ids with `new` in the place of each `pair`, looked for from the left.

    ids: list of int.   pair: (left, right).   new: int.
    """
    ### BEGIN SOLUTION
    merged = []
    for i in ids:
        if merged and (merged[-1], i) == pair:
            merged[-1] = new
        else:
            merged.append(i)
    return merged
    ### END SOLUTION


grade(merge)

# %% [markdown] tags=["slide"]
# ## 4. Learn
#
# Now the rounds. The commonest pair is written down, merged in all words, and its token gets the next free id: 512, 513, and so on. Two reasons to stop: there are as many merges as were asked for, or no pair occurs twice.
#
# **Predict** the first two merges, and what is left to merge after them, for *hug*, *hug*, *pug*.

# %% [markdown] tags=["answer"]
# Count: (u, g`</w>`) 3 times, (h, u) 2, (p, u) 1. So the first merge is `u g</w>`. The words are now *h ug* twice, and *p ug*. Next comes `h ug</w>`, twice. Then (p, ug`</w>`) is left, occurs once, and stays apart.

# %% [markdown]
# A vocabulary file of CLIP is a list of such merges, one a line: left, a space, right. **Write** `learn_merges`, which makes that list. For the text of a line keep a list of the tokens, `list(BASE)` at first.


# %% tags=["exercise"]
@exercise("learn_merges")
def learn_merges(frequency, most):
    """At most `most` merges, until no pair occurs twice. frequency: {word: count}.

    -> list of "left right", the texts of the two tokens
    """
    ### BEGIN SOLUTION
    words, times = [spell(word) for word in frequency], list(frequency.values())
    tokens, lines = list(BASE), []
    while len(lines) < most:
        pair, count = most_common_pair(words, times)
        if count < 2:
            break
        left, right = pair
        words = [merge(word, pair, len(tokens)) for word in words]
        lines.append(f"{tokens[left]} {tokens[right]}")
        tokens.append(tokens[left] + tokens[right])
    return lines
    ### END SOLUTION


grade(learn_merges)

# %% [markdown]
# **Look.** Four words that everybody uses for this, and then the names of emoji.

# %%
print(learn_merges({"hug": 10, "pug": 5, "pun": 12, "bun": 4, "hugs": 5}, 99))

lines = learn_merges(frequency, 60)
print(f"\n60 merges of {len(frequency):,} words:\n")
print("  ".join("".join(line.split()).replace("</w>", "▁") for line in lines))

# %% tags=["numbers"]
assert len(lines) == 60 and "ing</w>" in [line.replace(" ", "") for line in lines]

# %% [markdown]
# (`▁` stands for the end of a word.) Nobody told it anything about English, and it finds its endings: what stands together often means something together, often enough.
#
# Each round counts everything again, though only a few words have changed. The library counts again only what has, and keeps all pairs in a heap. The merges are the same.

# %%
trained = Tokenizer.train(texts, vocab_size=len(BASE) + 60 + 2)
print("the library learned the same merges:", trained.merges == lines)

# %% tags=["numbers"]
assert trained.merges == lines

# %% [markdown] tags=["slide"]
# ## 5. Encode
#
# A vocabulary is its list of merges, and nothing else. To encode a word, spell it, and **replay**: the first merge, everywhere in the word; then the second; to the last. What would have happened to that word, had it been there while the vocabulary was learned, happens now.
#
# **Predict.** Instead, one could take from the left the longest token that fits, again and again. Does that give the same? If not, which of the two gives fewer tokens?
#
# **Write** `encode`. `merges` are pairs of ids here, and the $n$-th, counted from 0, makes the token $512 + n$. (It can be done faster than by going through the whole list. Right first.)


# %% tags=["exercise"]
@exercise("encode")
def encode(ids, merges):
    """The ids of a spelled word after all merges, in the order of their learning.

    ids: list of int, as `spell` gives them.   merges: list of (left, right).
    """
    ### BEGIN SOLUTION
    for n, pair in enumerate(merges):
        ids = merge(ids, pair, 512 + n)
    return ids
    ### END SOLUTION


grade(encode)


# %% [markdown]
# Now the answer to the question. Here are a thousand merges of our texts, and both ways.


# %%
def as_pairs(lines):
    """Lines of a vocabulary -> the merges as pairs of ids."""
    ids, pairs = {token: i for i, token in enumerate(BASE)}, []
    for line in lines:
        left, right = line.split()
        pairs.append((ids[left], ids[right]))
        ids[left + right] = len(ids)
    return pairs


def longest_first(word, tokenizer):
    parts, found = [BASE[i] for i in spell(word)], []
    while parts:
        ends = range(len(parts), 0, -1)
        end = next(end for end in ends if "".join(parts[:end]) in tokenizer.ids)
        found.append("".join(parts[:end]))
        parts = parts[end:]
    return found


thousand = Tokenizer.train(texts, vocab_size=len(BASE) + 1000 + 2)
merges = as_pairs(thousand.merges)
some = list(frequency)[::3]
counts = Counter()
for word in some:
    replayed = [thousand.tokens[i] for i in encode(spell(word), merges)]
    longest = longest_first(word, thousand)
    if replayed != longest:
        fewer = np.sign(len(replayed) - len(longest))
        counts[("replayed", "neither", "longest first")[fewer + 1]] += 1
        if sum(counts.values()) <= 6:
            print(f"{word:12}{' '.join(replayed):26}{' '.join(longest)}")
print(f"\n{sum(counts.values())} of {len(some):,} words are cut differently.")
print("Fewer tokens:", ", ".join(f"{who} {n}" for who, n in counts.items()))

# %% tags=["numbers"]
assert sum(counts.values()) > 100
assert counts["longest first"] > 1.2 * counts["replayed"] > 0
assert counts["neither"] > 0.5 * sum(counts.values())

# %% [markdown] tags=["answer"]
# It is not the same. Most of these words are cut elsewhere into as many pieces; and where the number differs, it is, perhaps to your surprise, more often longest first that needs *fewer*. Byte-pair encoding does not look for the shortest spelling. It does what was done while learning, so that a text is cut now as the texts were cut then, and a model sees the pieces that it was trained on. That matters more than a token here and there. Whoever encodes CLIP's texts in another way gets other ids, and a model that understands less.

# %% [markdown]
# **Check** it against CLIP. Its vocabulary of 48,894 merges ships with the library. Your `encode` should give CLIP's own ids.

# %%
clip = Tokenizer.clip()
clip_merges = as_pairs(clip.merges)
seconds = dict.fromkeys(("yours", "the library's"), 0.0)
same = []
for word in ("a", "photo", "of", "an", "armadillo", "playing", "the", "ukulele"):
    started = time.perf_counter()
    yours = encode(spell(word), clip_merges)
    between = time.perf_counter()
    theirs = clip.encode(word)
    seconds["yours"] += between - started
    seconds["the library's"] += time.perf_counter() - between
    same.append(yours == theirs)
    print(f"{word:10} {yours!s:22}{' '.join(clip.tokens[i] for i in yours)}")
print("the same as the library's:", all(same))
print(", ".join(f"{who} took {1000 * took:.1f} ms" for who, took in seconds.items()))

# %% tags=["numbers"]
assert all(same) and seconds["yours"] > 5 * seconds["the library's"]

# %% [markdown]
# The library looks only at merges that the word has: of all pairs that stand in it, take the one that was learned first, merge, look again. The ids are the same. (If you wrote it like that, yours is fast too.)
#
# ## 6. How many merges?
#
# **Predict.** The more merges, the shorter a text. From which number on do new ones hardly help any more? And is a vocabulary of our own better for names of emoji than the first merges of CLIP's, which come from texts of the whole web?

# %% alt="Left: tokens in a name against the number of merges, on a logarithmic axis. All curves begin high and fall; that of our vocabulary falls fastest, on its own texts farther than on new ones, and CLIP's lies above it but goes on to many more merges, until it is near the dotted line, the number of words. Right: how often each merged token is used, the most used first. The curve falls like a power, and a red stripe at the end stands for those that are never used." tags=["slide", "output"]
ours = Tokenizer.train(texts, vocab_size=99_999)  # until no pair occurs twice
learned = len(ours.merges)
sizes = [2**k for k in range(2, 12)] + [learned]


def length(tokenizer, some):
    return np.mean([len(tokenizer.encode(text)) for text in some])


curves = {
    "ours, on its own texts": [],
    "ours, on new names": [],
    "CLIP's, on new names": [],
}
for size in sizes:
    cut = Tokenizer(ours.merges[:size])
    curves["ours, on its own texts"].append(length(cut, names))
    curves["ours, on new names"].append(length(cut, new_names))
clip_sizes = [2**k for k in range(2, 16, 2)] + [len(clip.merges)]
for size in clip_sizes:
    cut = Tokenizer(clip.merges[:size])
    curves["CLIP's, on new names"].append(length(cut, new_names))
words = np.mean([len(words_of(name)) for name in new_names])

uses = Counter()
for word, n in frequency.items():
    for i in ours.encode(word):
        uses[i] += n
used = np.sort([uses[512 + n] for n in range(learned)])[::-1]

figure = Figure(figsize=(9.6, 3.7), layout="constrained")
left, right = figure.subplots(1, 2)
styles = ((plots.BLUE, "-"), (plots.BLUE, "--"), (plots.ORANGE, "-"))
for (name, lengths), (colour, style) in zip(curves.items(), styles):
    xs = clip_sizes if "CLIP" in name else sizes
    left.plot(xs, lengths, style, color=colour, marker="o", ms=3, label=name)
left.axhline(words, color=plots.GREY, ls=":", lw=1.2)
note = {"textcoords": "offset points", "color": plots.GREY}
left.annotate("words in a new name", (4, words), (0, -12), **note)
left.set(xscale="log", ylim=(0, 12), xlabel="merges", ylabel="tokens in a name, mean")
left.legend(frameon=False, fontsize=9)
right.plot(np.arange(1, learned + 1)[used > 0], used[used > 0], color=plots.BLUE)
right.axvspan((used > 0).sum(), learned, color=plots.RED, alpha=0.25, lw=0)
right.annotate("never", (learned, used[0]), (-2, -6), ha="right", **note)
right.set(xscale="log", yscale="log", xlabel="merged token, the most used first")
right.set_ylabel("how often it is used in our texts")
for ax in (left, right):
    ax.spines[["top", "right"]].set_visible(False)
figure

# %%
print(f"{learned:,} merges were learned before no pair occurred twice")
own, new, web = (np.array(curve) for curve in curves.values())
for size in (64, 1024):
    mine, theirs = new[sizes.index(size)], web[clip_sizes.index(size)]
    print(f"{size:5,} merges: a new name has {mine:.1f} tokens, by CLIP's {theirs:.1f}")
print(f"all of CLIP's: {web[-1]:.1f} tokens; words: {words:.1f}")
rare, never = (used <= 5).mean(), (used == 0).mean()
print(f"tokens used at most 5 times: {rare:.0%}, never: {never:.0%}")
shipped = miniclip.load("emoji").tokenizer.vocab_size
print(f"the small CLIP has {shipped:,} tokens, OpenAI's {clip.vocab_size:,}")
steps = [ours.tokens[512 + n] for n in range(learned) if not uses[512 + n]]
print("never used:", " ".join(sorted(steps, key=len)[-12:]))

# %% tags=["numbers"]
assert (np.diff(own) < 0).all() and own[-1] < new[-1] - 0.3
assert new[sizes.index(1024)] < web[clip_sizes.index(1024)] - 0.5
assert web[-1] < new[-1] and web[-1] < 1.25 * words
assert 0.15 < (used == 0).mean() < 0.35 and (used <= 5).mean() > 0.7
assert 4 < length(Tokenizer([]), new_names) / words < 6  # letters to a word
assert 10 < web[0] < 13 and shipped < 0.1 * clip.vocab_size
middle = -np.diff(own)[2:8]  # each doubling from 16 to 1024 merges
assert middle.max() < 1.6 * middle.min()

# %% [markdown] tags=["answer"]
# There is no such number. In the middle the curves are nearly straight, and on this axis that means: each *doubling* brings the same, and costs twice as much as the one before. At equal size our own vocabulary wins, for it spends its merges on words of emoji. CLIP's wins in the end by sheer number, and gets close to one token a word.
#
# What does a larger one cost? Each token has a row in the embedding (notebook 2), which has to be *learned*, from the texts in which the token is used. On the right: the great majority of tokens is used five times or less, and about a quarter never, for they were only steps on the way to a longer one (the last line above shows some). A row that is never used stays as it was thrown. So the smallest vocabulary that keeps texts short enough is the best: the small CLIP that ships with this library makes do with a small part of OpenAI's.

# %% [markdown] tags=["slide"]
# ### Not all languages pay the same
#
# CLIP's merges were learned from English above all. **Predict** how many tokens the same sentence has in four languages.

# %%
sentences = {
    "English": "a red circle above a blue square",
    "German": "ein roter Kreis über einem blauen Quadrat",
    "Russian": "красный круг над синим квадратом",
    "Japanese": "青い四角の上の赤い丸",
}
tokens = {}
for language, sentence in sentences.items():
    tokens[language] = len(clip.encode(sentence))
    size = f"{len(sentence)} letters, {len(sentence.encode())} bytes"
    print(f"{language:10}{size:22}{tokens[language]:3} tokens   {sentence}")

# %% tags=["numbers"]
assert tokens["English"] == 7
assert tokens["German"] == 13 and tokens["Russian"] == 30
assert tokens["Japanese"] == 19  # of CLIP's fixed vocabulary, so these are exact

# %% [markdown] tags=["answer"]
# Seven in English, one for each word; nearly twice as many in German, and more than four times in Russian, about one for each letter. (Japanese has few letters, and pays about two tokens for each.) Nothing is impossible to write, and yet not all pay the same: with 77 places in CLIP's text encoder, a Russian text is cut where the same text in English fills less than a quarter of them, and its pieces are letters, from which the encoder has learned little.

# %% [markdown]
# ## 7. What the encoder reads
#
# A start token, the text, an end token, and zeros to fill up.

# %%
rows = thousand(["guitar", "umbrella with rain drops"], context_length=14)
print(rows)
start, end = thousand.start_token, thousand.end_token
print(f"{thousand.vocab_size:,} tokens; start {start}, end {end}")
print("where a row ends:", rows.argmax(1))

# %% tags=["numbers"]
assert (rows[np.arange(2), rows.argmax(1)] == thousand.end_token).all()
assert thousand.end_token == thousand.vocab_size - 1

# %% [markdown]
# The end token has the largest id of all. That is no accident: a text encoder reads its features at the end of the text (notebook 6), and OpenAI's finds that place with `argmax`, as the last line above does. The library compares ids instead, so that any number would do for the end. A text that is too long is cut, and its last place becomes the end token, so that there always is one.
#
# ## What you know now
#
# **Explain**, in a sentence or two each:
#
# 1. Why is there no word that this tokenizer cannot write, and what does it do with one that it has never met?
# 2. Two people have the same *set* of tokens, and learned them in another order. Do they get the same ids for a text?
# 3. Your texts are names of emoji, and somebody proposes CLIP's 49,408 tokens, "because more is better". What do you say?

# %% [markdown] tags=["answer"]
# 1. Every text is bytes, and each of the 256 has a token. A new word falls into pieces, the longer ones where its parts are common.
# 2. No. An id is a rank, so the ids differ; and even the pieces differ, for the merge that was learned first is done first, and what it takes is gone for the others.
# 3. Names would be a little shorter. But nearly all of those rows of the embedding would be used a few times or never, and what is not used is not learned.

# %% [markdown]
# ## Going on
#
# - **Fast.** Write `encode` so that it looks only at pairs that stand in the word: the one with the smallest rank first. Then for a "word" of 10,000 letters: what does it cost, and what would a heap change? (See `Tokenizer._merge`.)
# - **And back.** Write `decode`: ids to a text. Where do the spaces come from, and which texts do not come back as they went in?
# - **Words or not.** CLIP cuts a text into words before it learns, so that no token reaches across a space. Leave that out (one text, one "word"), and look at the merges. What do you gain, and what do you lose?
