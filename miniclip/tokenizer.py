"""Byte-pair encoding: any text becomes a list of integers, common words short, rare ones long.

A word starts as its UTF-8 bytes, so there is no character that cannot be written. Each byte has two
tokens: one inside a word and one, marked `</w>`, that ends it. Learning repeats one step: count which
two tokens stand side by side most often, and make that pair a new token.

    captions   hug  hug  pug                    counts   (u, g</w>) 3   (h, u) 2   (p, u) 1
    merge 1    h ug</w>  h ug</w>  p ug</w>              (h, ug</w>) 2  (p, ug</w>) 1
    merge 2    hug</w>  hug</w>  p ug</w>                (p, ug</w>) 1, and what occurs once stays apart

Encoding replays the merges in the order in which they were learned. So a vocabulary is nothing but its list of
merges: ids 0..255 are the bytes, 256..511 the bytes that end a word, from 512 on the merges, and the last two ids
mark the start and the end of a text. A token's id is also its rank. With CLIP's own 48,894 merges
(`Tokenizer.clip()`) the ids, 49,408 of them, are CLIP's for every text, odd corners included.

Source: Sennrich et al. 2016; over bytes: Radford et al. 2019, section 2.2; CLIP: Radford et al. 2021, 2.4.
"""

import gzip
import heapq
import html
import reprlib
import warnings
from collections import Counter, defaultdict
from importlib.resources import files

import numpy as np

from .checks import listed, takes

START, END, WORD_END = "<|startoftext|>", "<|endoftext|>", "</w>"
# How CLIP cuts a text into words. One character gets lost, U+0345: it is no letter, but its upper case is.
WORD = (
    r"<\|startoftext\|>|<\|endoftext\|>"  # the special tokens, where a text spells them out
    r"|'s|'t|'re|'ve|'m|'ll|'d"  # English contractions
    r"|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"  # letters; one digit; anything else
)

# A vocabulary file shows every byte as a visible character. Bytes that are one in Latin-1 show as
# themselves and come first; the 68 others show as the characters from 256 on.
_VISIBLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_BYTES = sorted(range(256), key=lambda b: (b not in _VISIBLE, b))  # in the order of their ids
ALPHABET = [chr(b) for b in _VISIBLE] + [chr(256 + n) for n in range(256 - len(_VISIBLE))]
BASE = ALPHABET + [c + WORD_END for c in ALPHABET]  # tokens 0..511

CLIP_MERGES = 48_894  # CLIP's file lists 262,144 and CLIP uses the first of them
LONGEST_WORD, CACHED_WORDS = 256, 1 << 16  # longer "words" are neither learned from nor cached


def clean(text):
    """Mend broken Unicode, undo HTML entities (even doubled), make a run of spaces one, lower the case."""
    import ftfy
    import regex

    if not isinstance(text, str):
        raise ValueError(f"a text to tokenize must be a str, but {reprlib.repr(text)} is a {type(text).__name__}")
    return regex.sub(r"\s+", " ", html.unescape(html.unescape(ftfy.fix_text(text)))).strip().lower()


def words_of(text):
    """The words of a text, as CLIP cuts it after `clean`. str -> list of str."""
    import regex

    return regex.findall(WORD, clean(text), regex.IGNORECASE)


def spell(word):
    """The ids of a word's bytes, the last one marked as the end of the word. str -> list of int."""
    ids = [_BYTES.index(byte) for byte in word.encode("utf-8")]
    ids[-1] += 256
    return ids


def learn_merges(frequency, most):
    """Learn at most `most` merges, the commonest pair first, until no pair occurs twice.

    Of pairs equally common, the one with the smallest ids is first: only the counts decide the result.
    frequency: dict word -> count.   Yields "left right", the lines of a merges file.
    """
    words, times, tokens = [spell(word) for word in frequency], list(frequency.values()), list(BASE)
    counts, where = Counter(), defaultdict(set)  # of each pair: how often, and in which words
    heap = []  # of (-count, pair), many of them outdated

    def tally(n, sign):
        for pair in zip(words[n], words[n][1:]):
            counts[pair] += sign * times[n]
            where[pair].add(n)
            heapq.heappush(heap, (-counts[pair], pair))

    for n in range(len(words)):
        tally(n, 1)
    while heap and heap[0][0] <= -2 and len(tokens) < len(BASE) + most:
        count, pair = heapq.heappop(heap)
        if -count != counts[pair]:
            continue
        for n in where.pop(pair):
            tally(n, -1)
            joined = []
            for i in words[n]:
                if joined and (joined[-1], i) == pair:
                    joined[-1] = len(tokens)
                else:
                    joined.append(i)
            words[n] = joined
            tally(n, 1)
        tokens.append(tokens[pair[0]] + tokens[pair[1]])
        yield f"{tokens[pair[0]]} {tokens[pair[1]]}"


class Tokenizer:
    """Text to ids and back. Made by `train`, `clip` or `from_json` (from files: checkpoints/vocabulary.py).

    vocab_size: number of tokens.   start_token = vocab_size - 2.   end_token = vocab_size - 1.
    merges: list of "left right".   tokens: list of str, the token of each id.   ids: dict, its inverse.
    """

    _warned_of_cutting = False  # on the class: once per process, not once per tokenizer

    def __init__(self, merges):
        """merges: list of "left right", each of two tokens that exist by then. Else ValueError."""
        merges = listed(merges, "merges")
        self.merges, self.tokens, self._merged = [], list(BASE), {}
        self.ids = {token: i for i, token in enumerate(BASE)}
        for n, line in enumerate(merges, start=1):
            pair = line.split() if isinstance(line, str) else ()
            token = "".join(pair)
            if len(pair) != 2 or pair[0] not in self.ids or pair[1] not in self.ids or token in self.ids:
                raise ValueError(f"merge {n}, {reprlib.repr(line)}, is not two known tokens that make a new one")
            self.merges.append(" ".join(pair))
            self._merged[self.ids[pair[0]], self.ids[pair[1]]] = self.ids[token] = len(self.tokens)
            self.tokens.append(token)
        self.tokens += [START, END]
        self.vocab_size = len(self.tokens)
        self.start_token, self.end_token = self.vocab_size - 2, self.vocab_size - 1
        self.ids |= {START: self.start_token, END: self.end_token}
        self._cache = {START: [self.start_token], END: [self.end_token]}

    @classmethod
    def train(cls, captions, vocab_size):
        """Learn a vocabulary of at most `vocab_size` tokens (fewer where no pair of tokens occurs twice).

        captions: list of str, at least one, in any order.   vocab_size: int, at least 514. Else ValueError.
        """
        if not isinstance(captions, (list, tuple)) or not captions:
            raise ValueError(f"captions must be a list of at least one text, not {reprlib.repr(captions)}")
        if not isinstance(vocab_size, (int, np.integer)) or vocab_size < len(BASE) + 2:
            raise ValueError(f"vocab_size is {vocab_size!r}, but it must be an integer of at least {len(BASE) + 2}")
        words = (word for caption in captions for word in words_of(caption))
        frequency = Counter(word for word in words if word not in (START, END) and len(word) <= LONGEST_WORD)
        return cls(learn_merges(frequency, vocab_size - len(BASE) - 2))

    @classmethod
    def clip(cls):
        """CLIP's own vocabulary, 49,408 tokens, which ships in the package (MIT licence, OpenAI)."""
        packed = (files(__package__) / "models" / "clip_merges.txt.gz").read_bytes()
        _, *merges = gzip.decompress(packed).decode("utf-8").rstrip().split("\n")
        return cls(merges)

    def to_json(self):
        """All there is to know about this tokenizer, as a dict that JSON can hold."""
        return {"type": "byte-pair encoding", "merges": list(self.merges)}

    @classmethod
    def from_json(cls, description):
        """The tokenizer that `to_json` described. ValueError where the description is anything else."""
        match description:
            case {"type": "byte-pair encoding", "merges": list(merges)}:
                return cls(merges)
        raise ValueError(f"{reprlib.repr(description)} is not what a tokenizer's to_json gives")

    def encode(self, text):
        """The ids of a text, without start and end. str -> list of int; ValueError for anything but a str."""
        ids = []
        for word in words_of(text):
            merged = self._cache.get(word) or self._merge(spell(word))
            if len(word) <= LONGEST_WORD and len(self._cache) < CACHED_WORDS:
                self._cache[word] = merged
            ids += merged
        return ids

    def _merge(self, ids):
        """Merge the pair that was learned first, leftmost first, until no pair is known: O(n log n).

        The tokens are a linked list: a merge grows the left one, empties the right one and looks at the two
        new pairs. These were learned later than the merge just done, as they hold the token that it made.
        """
        ids = [*ids, None]  # ids[-1] stands beyond both ends, and is in no pair
        before, after = list(range(-1, len(ids) - 1)), list(range(1, len(ids) + 1))
        heap = sorted((self._merged[pair], i) for i, pair in enumerate(zip(ids, ids[1:])) if pair in self._merged)
        while heap:
            token, i = heapq.heappop(heap)
            j = after[i]
            if self._merged.get((ids[i], ids[j])) != token:  # an earlier merge took one of the two
                continue
            ids[i], ids[j] = token, None
            after[i] = after[j]
            before[after[i]] = i
            for left, right in ((before[i], i), (i, after[i])):
                if (ids[left], ids[right]) in self._merged:
                    heapq.heappush(heap, (self._merged[ids[left], ids[right]], left))
        return [i for i in ids if i is not None]

    def decode(self, ids):
        """The text of ids, as CLIP gives it: lower case, a space after every word. ValueError for no such id."""
        for i in (ids := listed(ids, "ids")):
            if not isinstance(i, (int, np.integer)) or isinstance(i, bool) or not 0 <= i < self.vocab_size:
                raise ValueError(f"{i!r} is no id of this vocabulary: its ids are 0 to {self.vocab_size - 1}")
        spelled = bytes(_BYTES[ALPHABET.index(c)] for i in ids for c in self.tokens[i])
        return spelled.decode("utf-8", errors="replace").replace(WORD_END, " ")

    @takes("context_length ≥ 1")
    def __call__(self, texts, context_length=77):
        """What the text encoder reads: start, ids, end, then zeros.   texts: str or list of N str.

        A text that is too long is cut to context_length tokens, and the last of these becomes the end token,
        as CLIP does with truncate=True. A warning says so, once per process.
        Returns int64 (N, context_length). ValueError for what is no str.
        """
        texts = list(texts) if isinstance(texts, (list, tuple, np.ndarray)) else [texts]
        rows = np.zeros((len(texts), context_length), dtype=np.int64)
        for row, text in zip(rows, texts):
            ids = [self.start_token, *self.encode(text), self.end_token]
            if len(ids) > context_length and not Tokenizer._warned_of_cutting:
                Tokenizer._warned_of_cutting = True
                cut = f"the text {text[:40]!r}... has {len(ids)} tokens and was cut to {context_length}"
                warnings.warn(f"{cut}; later cuts will not be reported", stacklevel=3)
            ids = ids[:context_length]
            ids[-1] = self.end_token
            row[: len(ids)] = ids
        return rows
