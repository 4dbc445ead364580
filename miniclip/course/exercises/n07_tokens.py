"""Notebook 7, what a merge is, on lists of ids: the commonest pair, and merging it."""

from collections import Counter

from ..exercise import Mistake, Notebook

words_to_tokens = Notebook("07_tokens")


# ------------------------------------------------------------------------------------------ the commonest pair


def most_common_pair(words, times):
    """((left, right), count) of the pair that stands side by side most often; of equals the smallest; or (None, 0)."""
    counts = Counter()
    for word, n in zip(words, times):
        for pair in zip(word, word[1:]):
            counts[pair] += n
    pair = min(counts, key=lambda pair: (-counts[pair], pair), default=None)
    return pair, counts[pair]


def counted(words, times, key, weight=lambda n: n, pairs=lambda word: zip(word, word[1:])):
    """A wrong most_common_pair."""
    counts = Counter()
    for word, n in zip(words, times):
        for pair in pairs(word):
            counts[pair] += weight(n)
    pair = min(counts, key=lambda pair: key(counts, pair), default=None)
    return pair, counts[pair]


def smallest(counts, pair):
    """The right key for min: the most common pair first, then the smallest."""
    return -counts[pair], pair


def apart(word):
    """The pairs of a word, of which no two share a token."""
    found, at = [], 0
    while at + 1 < len(word):
        pair = word[at], word[at + 1]
        found.append(pair)
        at += 2 if word[at : at + 2] == word[at + 1 : at + 3] else 1
    return found


def in_one_row(words, times):
    """A wrong most_common_pair: all words written in one row, each of them once."""
    return counted([[i for word in words for i in word]], [1], smallest)


words_to_tokens.function(
    most_common_pair,
    draw=lambda r, n, m: (
        [[r.integer(97, 99) for _ in range(r.integer(1, 8))] for _ in range(n + 3)],
        [r.integer(1, 9) for _ in range(n + 3)],
    ),
    points=2,
    traps={
        "two pairs equally common": lambda r: ([[98, 99], [97, 98], [97, 99]], [3, 3, 2]),
        "a letter three times in a row": lambda r: ([[97, 97, 97], [98, 99]], [2, 3]),
        "words of one letter": lambda r: ([[97], [98]], [5, 7]),
        "no words": lambda r: ([], []),
    },
    mistakes=(
        Mistake(
            "times",
            "each word is counted once; a word that occurs 5 times counts 5 times.",
            lambda w, t: counted(w, t, smallest, weight=lambda n: 1),
        ),
        Mistake(
            "ties",
            "of pairs equally common it takes the largest; the smallest is asked for.",
            lambda w, t: counted(w, t, lambda c, p: (-c[p], -p[0], -p[1])),
        ),
        Mistake(
            "ties",
            "of pairs equally common it takes the one that it met first; the smallest is asked for.",
            lambda w, t: counted(w, t, lambda c, p: -c[p]),
        ),
        Mistake("boundary", "it counts pairs across the end of a word, and every word once.", in_one_row),
        Mistake(
            "repeated",
            "a pair counts once in each word, and may stand there several times.",
            lambda w, t: counted(w, t, smallest, pairs=lambda word: set(zip(word, word[1:]))),
        ),
        Mistake(
            "repeated",
            "aaa holds the pair (a, a) twice, at both places.",
            lambda w, t: counted(w, t, smallest, pairs=apart),
        ),
        Mistake(
            "order",
            "(a, b) and (b, a) are two pairs: sorted, they become one.",
            lambda w, t: counted(w, t, smallest, pairs=lambda word: [tuple(sorted(p)) for p in zip(word, word[1:])]),
        ),
    ),
    kinds={
        "forward": "Take two short words and count their neighbours by hand; print what your Counter holds.",
        "times": "What does `times` say, and where does it enter the count?",
        "ties": "min with key=lambda pair: (-counts[pair], pair) looks at the count first, then at the pair.",
        "boundary": "A pair is two neighbours in one word. Walk through each word by itself.",
        "repeated": "zip(word, word[1:]) gives every pair of neighbours, those that overlap too. Count them all.",
        "order": "A pair is a tuple (left, right), as it stands in the word.",
        "traps": "What does it give where there is no pair at all? Asked for is (None, 0).",
    },
    hints=(
        "A collections.Counter, and two loops: over the words with their times, and over the neighbours in each.",
        "zip(word, word[1:]) gives the neighbours.",
        "The smallest by (−count, pair): the count first, then the pair.",
    ),
)


# ------------------------------------------------------------------------------------------ the merge


def merge(ids, pair, new):
    """The list of ids with `new` wherever `pair` stood, found from the left."""
    merged = []
    for i in ids:
        if merged and (merged[-1], i) == pair:
            merged[-1] = new
        else:
            merged.append(i)
    return merged


def merge_first(ids, pair, new):
    """A wrong merge: the first alone."""
    for k, found in enumerate(zip(ids, ids[1:])):
        if found == pair:
            return [*ids[:k], new, *ids[k + 2 :]]
    return list(ids)


def from_the_right(ids, pair, new):
    """A wrong merge: it goes from the right."""
    return merge(ids[::-1], pair[::-1], new)[::-1]


def overlapping(ids, pair, new):
    """A wrong merge: a token that has been merged is used again."""
    return [new if found == pair else found[0] for found in zip(ids, ids[1:])] + ids[-1:]


def one_left(ids, pair, new):
    """A wrong merge: the right one stays."""
    merged = list(ids)
    for k, found in enumerate(zip(ids, ids[1:])):
        if found == pair:
            merged[k] = new
    return merged


def last_lost(ids, pair, new):
    """A wrong merge: the last token is lost."""
    merged, k = [], 0
    while k < len(ids) - 1:
        found = (ids[k], ids[k + 1]) == pair
        merged.append(new if found else ids[k])
        k += 1 + found
    return merged


def either_order(ids, pair, new):
    """A wrong merge: (b, a) counts as (a, b)."""
    merged = []
    for i in ids:
        if merged and {merged[-1], i} == set(pair) and (merged[-1] != i or pair[0] == pair[1]):
            merged[-1] = new
        else:
            merged.append(i)
    return merged


words_to_tokens.function(
    merge,
    draw=lambda r, n, m: (
        [r.integer(97, 98) for _ in range(3 * n + 6)],
        (r.integer(97, 98), r.integer(97, 98)),
        512 + m,
    ),
    points=4,
    traps={
        "three in a row": lambda r: ([97, 97, 97], (97, 97), 600),
        "five in a row": lambda r: ([97, 97, 97, 97, 97], (97, 97), 600),
        "a pair at the end": lambda r: ([99, 97, 98], (97, 98), 600),
        "one token": lambda r: ([97], (97, 97), 600),
        "nothing": lambda r: ([], (97, 98), 600),
        "a pair that is not there": lambda r: ([97, 98, 99], (98, 97), 600),
    },
    mistakes=(
        Mistake("all", "only the first pair is merged.", merge_first),
        Mistake("left", "it goes from the right: of aaa the left two are to be merged.", from_the_right),
        Mistake("overlap", "a token that was merged is used again: in aaa there is one pair to merge.", overlapping),
        Mistake("overlap", "the right one of the two is still there.", one_left),
        Mistake("end", "the last token is lost.", last_lost),
        Mistake("order", "(b, a) is merged as well: only (a, b) is the pair.", either_order),
    ),
    kinds={
        "forward": "Write down by hand what should come of aab, for the pair (a, a) and for (a, b).",
        "all": "Go on behind the pair that you merged, to the end.",
        "left": "Of aaa the left two become one: a list of two, [aa, a].",
        "overlap": "Both tokens of a pair are used up. Where does the search go on?",
        "end": "A loop over pairs ends one before the end. What becomes of the last token?",
        "order": "The left token of the pair must stand to the left.",
        "traps": "Write down by hand what should come of aaa, of a single token, and of an empty list.",
    },
    hints=(
        "Build a new list. For each token ask: does it make the pair, with the last one in the new list?",
        "If it does, the last one in the new list becomes the new token; else the token is appended.",
        "`if merged and (merged[-1], i) == pair: merged[-1] = new`",
    ),
)
