"""Notebook 7, merges that are learned, and replayed: learning a vocabulary, encoding with it."""

from ... import tokenizer
from ...tokenizer import BASE, spell
from ..exercise import Mistake
from .n07_tokens import merge, merge_first, most_common_pair, words_to_tokens


def small_words(r, count, letters, longest=6):
    """Words of a few letters, in which pairs repeat: each once, as a list of str."""
    sizes = [r.integer(1, longest) for _ in range(count)]
    return list(dict.fromkeys("".join(letters[r.integer(0, len(letters) - 1)] for _ in range(n)) for n in sizes))


# ------------------------------------------------------------------------------------------ learning


def learn_merges(frequency, most):
    """At most `most` merges of the words in {word: count}, the commonest pair first: a list of "left right"."""
    return list(tokenizer.learn_merges(frequency, most))


def learned(frequency, most, choose=most_common_pair, least=2, join=merge):
    """A way to learn merges that can be made wrong."""
    words, times, tokens, lines = [spell(word) for word in frequency], list(frequency.values()), list(BASE), []
    while len(lines) < most:
        pair, count = choose(words, times)
        if pair is None or count < least:
            break
        words = [join(word, pair, len(tokens)) for word in words]
        lines.append(f"{tokens[pair[0]]} {tokens[pair[1]]}")
        tokens.append(tokens[pair[0]] + tokens[pair[1]])
    return lines


def frequencies(r, n):
    """{word: how often}, of small words."""
    return {word: r.integer(1, 6) for word in small_words(r, 2 * n + 4, "ugh", 7)}


words_to_tokens.function(
    learn_merges,
    draw=lambda r, n, m: (frequencies(r, n), 3 + 2 * m),
    points=4,
    traps={
        "until no pair occurs twice": lambda r: (frequencies(r, 2), 500),
        "no merges asked for": lambda r: (frequencies(r, 2), 0),
        "nothing occurs twice": lambda r: ({"hug": 1}, 9),
        "letters of several bytes": lambda r: ({"müde": 3, "mühe": 2, "青い": 2}, 20),
        "a letter many times": lambda r: ({"aaaaaaa": 2, "aaa": 3}, 9),
    },
    mistakes=(
        Mistake(
            "stop", "it goes on to pairs that occur once; these stay apart.", lambda f, most: learned(f, most, least=1)
        ),
        Mistake("stop", "it stops one merge too early.", lambda f, most: learned(f, most - 1)),
        Mistake("stop", "a pair that occurs twice is merged too.", lambda f, most: learned(f, most, least=3)),
        Mistake(
            "times",
            "each word is counted once; a word that occurs 5 times counts 5 times.",
            lambda f, most: learned(dict.fromkeys(f, 2), most, least=3),
        ),
        Mistake(
            "joined",
            "the words are never merged, so that the same pair is the commonest again and again.",
            lambda f, most: learned(f, most, join=lambda word, pair, new: word),
        ),
        Mistake(
            "joined",
            "a merge changes the first pair of each word alone.",
            lambda f, most: learned(f, most, join=merge_first),
        ),
        Mistake(
            "line",
            "the pair is written without a space: a line is left, a space, right.",
            lambda f, most: [line.replace(" ", "") for line in learned(f, most)],
        ),
    ),
    kinds={
        "forward": "Learn from hug, hug and pug by hand: u g</w>, then h ug</w>. Print each step of yours beside it.",
        "stop": "Two reasons to stop: there are `most` merges, or the commonest pair occurs less than twice.",
        "times": "frequency.values() are the times of the words: hand them to most_common_pair.",
        "joined": "After each merge, every word is written anew, with the new token wherever the pair stood.",
        "line": 'f"{left} {right}", from the list of tokens.',
        "traps": "Two reasons to stop: there are `most` merges, or the commonest pair occurs less than twice.",
    },
    hints=(
        "Begin with words = [spell(word) for word in frequency] and tokens = list(BASE).",
        "A loop: the commonest pair; its line; merge it in all words; append the new token to tokens.",
        "The id of a new token is len(tokens), before it is appended; its text is that of both, joined.",
    ),
    forbidden=(tokenizer.learn_merges,),
)


# ------------------------------------------------------------------------------------------ encoding


def encode(ids, merges):
    """The ids of a word when all merges are replayed; merges: list of pairs of ids, the n-th of which made 512 + n."""
    for n, pair in enumerate(merges):
        ids = merge(ids, pair, len(BASE) + n)
    return ids


def as_pairs(lines):
    """Lines of merges -> pairs of ids."""
    ids = {token: i for i, token in enumerate(BASE)}
    pairs = []
    for line in lines:
        left, right = line.split()
        pairs.append((ids[left], ids[right]))
        ids[left + right] = len(ids)
    return pairs


def a_word_and_merges(r, n, m):
    """The ids of a word, and merges that were learned of other words."""
    pairs = as_pairs(learn_merges(frequencies(r, n + 2), 8 + 4 * m))
    return spell("".join("ugh"[r.integer(0, 2)] for _ in range(8 + 2 * n))), pairs


def by_choice(ids, merges, choose, join=merge):
    """A wrong encode: of the pairs that stand in the word it chooses another than the one learned first."""
    ranks = {pair: n for n, pair in enumerate(merges)}
    while found := [ranks[pair] for pair in zip(ids, ids[1:]) if pair in ranks]:
        rank = choose(found)
        ids = join(ids, merges[rank], len(BASE) + rank)
    return ids


def longest_first(ids, merges):
    """The longest token that fits, from the left: as many people believe that it works."""
    spelled = [[i] for i in range(len(BASE))]
    for left, right in merges:
        spelled.append(spelled[left] + spelled[right])
    by_spelling = {tuple(parts): i for i, parts in enumerate(spelled)}
    found, at = [], 0
    while at < len(ids):
        end = next(end for end in range(len(ids), at, -1) if tuple(ids[at:end]) in by_spelling)
        found.append(by_spelling[tuple(ids[at:end])])
        at = end
    return found


def replay(ids, merges, join, first=len(BASE)):
    """All merges in turn, by a way to join and from a first id that may be wrong."""
    for n, pair in enumerate(merges):
        ids = join(ids, pair, first + n)
    return ids


def encode_backwards(ids, merges):
    """A wrong encode: the merges are replayed from the last to the first."""
    for n, pair in reversed(list(enumerate(merges))):
        ids = merge(ids, pair, len(BASE) + n)
    return ids


words_to_tokens.function(
    encode,
    draw=a_word_and_merges,
    points=4,
    traps={
        "the second merge first in the word": lambda r: (spell("abc"), [(98, 99 + 256), (97, 98)]),
        "a longer token that is not reached": lambda r: (spell("abcd"), as_pairs(["b c", "a b", "ab c", "c d</w>"])),
        "one letter": lambda r: (spell("a"), as_pairs(["a b"])),
        "no merges": lambda r: (spell("hug"), []),
        "a letter many times": lambda r: (spell("a" * 13), as_pairs(["a a", "aa aa", "aaaa a</w>"])),
    },
    mistakes=(
        Mistake(
            "order",
            "of the pairs that it finds it takes the leftmost, and not the one learned first.",
            lambda ids, merges: by_choice(ids, merges, lambda found: found[0]),
        ),
        Mistake(
            "order",
            "of the pairs that it finds it takes the one learned last.",
            lambda ids, merges: by_choice(ids, merges, max),
        ),
        Mistake("order", "it takes the longest token that fits, from the left.", longest_first),
        Mistake(
            "order",
            "the merges are replayed from the last to the first.",
            lambda ids, merges: encode_backwards(ids, merges),
        ),
        Mistake(
            "all", "of each merge only the first place is merged.", lambda ids, merges: replay(ids, merges, merge_first)
        ),
        Mistake(
            "rank",
            "the new token has the number of its merge; ids begin with the 512 tokens of single bytes.",
            lambda ids, merges: replay(ids, merges, merge, 0),
        ),
        Mistake("rank", "the new ids are one too large.", lambda ids, merges: replay(ids, merges, merge, 513)),
    ),
    kinds={
        "order": (
            "In which order were the merges learned? Those that came later were learned on words merged already.",
            "Of all pairs that stand in the word and are known, the one with the smallest number comes first.",
        ),
        "all": "Your `merge` replaces a pair everywhere. Does encode do so too?",
        "rank": "The n-th merge, counted from 0, made the token 512 + n.",
        "traps": "Take the small example, and go through the merges by hand, from the first to the last.",
    },
    hints=(
        "Replay what happened to this word, or would have, while the merges were learned.",
        "One merge after the other, from the first to the last, everywhere in the word.",
        "ids = merge(ids, pair, 512 + n), for each n, pair in enumerate(merges).",
    ),
    forbidden=(tokenizer.Tokenizer._merge,),
)
