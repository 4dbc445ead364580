"""Wrong tokenizers."""

from collections import Counter

from miniclip.course.exercise import find_exercise
from miniclip.tokenizer import BASE, spell

from . import bug

join = find_exercise("merge").reference  # what is right here, for functions that are wrong elsewhere
commonest = find_exercise("most_common_pair").reference

# ------------------------------------------------------------------------------------------ the commonest pair


@bug("most_common_pair", "times")
def words_counted_once(words, times):
    counts = Counter(pair for word in words for pair in zip(word, word[1:]))
    if not counts:
        return None, 0
    pair = min(counts, key=lambda p: (-counts[p], p))
    return pair, counts[pair]


def count(words, times):
    """How often each pair stands in the words, each of them taken `times`."""
    counts = Counter()
    for word, n in zip(words, times):
        for pair in zip(word, word[1:]):
            counts[pair] += n
    return counts


@bug("most_common_pair", "ties")
def by_most_common(words, times):
    counts = count(words, times)
    return counts.most_common(1)[0] if counts else (None, 0)


@bug("most_common_pair", "ties")
def largest_of_equals(words, times):
    counts = count(words, times)
    return max(((c, p) for p, c in counts.items()), default=(0, None))[::-1]


@bug("most_common_pair", "")
def nothing_is_an_error(words, times):
    counts = count(words, times)
    pair = min(counts, key=lambda p: (-counts[p], p))
    return pair, counts[pair]


@bug("most_common_pair", "boundary")
def one_long_text(words, times):
    text = [i for word in words for i in word]
    counts = Counter(zip(text, text[1:]))
    if not counts:
        return None, 0
    pair = min(counts, key=lambda p: (-counts[p], p))
    return pair, counts[pair]


@bug("most_common_pair", "repeated")
def once_in_a_word(words, times):
    counts = Counter()
    for word, n in zip(words, times):
        for pair in set(zip(word, word[1:])):
            counts[pair] += n
    pair = min(counts, key=lambda p: (-counts[p], p), default=None)
    return pair, counts[pair]


@bug("most_common_pair", "")
def pair_alone(words, times):
    counts = count(words, times)
    return min(counts, key=lambda p: (-counts[p], p), default=None)


# ------------------------------------------------------------------------------------------ the merge


@bug("merge", "all")
def first_alone(ids, pair, new):
    for k in range(len(ids) - 1):
        if (ids[k], ids[k + 1]) == pair:
            return ids[:k] + [new] + ids[k + 2 :]
    return ids


@bug("merge", "overlap")
def used_twice(ids, pair, new):
    merged = []
    for k in range(len(ids)):
        if k + 1 < len(ids) and (ids[k], ids[k + 1]) == pair:
            merged.append(new)
        else:
            merged.append(ids[k])
    return merged


def walked(ids, pair, new, end):
    """A merge that looks at the pair that begins at each place k before `end`, from the left."""
    merged, k = [], 0
    while k < end:
        if (ids[k], ids[k + 1]) == pair:
            merged.append(new)
            k += 2
        else:
            merged.append(ids[k])
            k += 1
    return merged


@bug("merge", "end")
def end_forgotten(ids, pair, new):
    return walked(ids, pair, new, len(ids) - 1)


@bug("merge", "left")
def backwards(ids, pair, new):
    merged, k = [], len(ids) - 1
    while k >= 0:
        if k > 0 and (ids[k - 1], ids[k]) == pair:
            merged.insert(0, new)
            k -= 2
        else:
            merged.insert(0, ids[k])
            k -= 1
    return merged


@bug("merge", "")
def past_the_end(ids, pair, new):
    return walked(ids, pair, new, len(ids))


@bug("merge", "order")
def both_ways(ids, pair, new):
    merged = []
    for i in ids:
        if merged and ((merged[-1], i) == pair or (i, merged[-1]) == pair):
            merged[-1] = new
        else:
            merged.append(i)
    return merged


@bug("merge", "")
def in_place(ids, pair, new):
    for k, found in enumerate(zip(ids, ids[1:])):
        if found == pair:
            ids[k : k + 2] = [new]


# ------------------------------------------------------------------------------------------ learning


def learn(frequency, most, least=2, line="{} {}", once=False, merging=join, start=0):
    """A learn_merges that can be made wrong: when it stops, what it writes, counts and merges."""
    words, times = [spell(word) for word in frequency], list(frequency.values())
    if once:
        times = [2] * len(times)
    tokens, lines = list(BASE), []
    for _ in range(start, most):
        pair, times_found = commonest(words, times)
        if pair is None or times_found < least:
            break
        left, right = tokens[pair[0]], tokens[pair[1]]
        words = [merging(word, pair, len(tokens)) for word in words]
        lines.append(line.format(left, right))
        tokens.append(left + right)
    return lines


@bug("learn_merges", "stop")
def down_to_once(frequency, most):
    return learn(frequency, most, least=1)


@bug("learn_merges", "stop")
def one_too_few(frequency, most):
    return learn(frequency, most, start=1)


@bug("learn_merges", "stop")
def more_than_twice(frequency, most):
    return learn(frequency, most, least=3)


@bug("learn_merges", "line")
def no_space(frequency, most):
    return learn(frequency, most, line="{}{}")


@bug("learn_merges", "times")
def all_words_alike(frequency, most):
    return learn(frequency, most, once=True, least=3)


@bug("learn_merges", "joined")
def words_as_they_were(frequency, most):
    return learn(frequency, most, merging=lambda word, pair, new: word)


@bug("learn_merges", "joined")
def first_place_of_a_word(frequency, most):
    return learn(frequency, most, merging=first_alone)


@bug("learn_merges", "")
def a_generator(frequency, most):
    yield from learn(frequency, most)


# ------------------------------------------------------------------------------------------ encoding


def known(ids, merges):
    """The ranks of the merges whose pairs stand in ids, from left to right."""
    ranks = {pair: n for n, pair in enumerate(merges)}
    return [ranks[pair] for pair in zip(ids, ids[1:]) if pair in ranks]


@bug("encode", "order")
def leftmost(ids, merges):
    while found := known(ids, merges):
        ids = join(ids, merges[found[0]], 512 + found[0])
    return ids


@bug("encode", "order")
def last_learned(ids, merges):
    while found := known(ids, merges):
        ids = join(ids, merges[max(found)], 512 + max(found))
    return ids


@bug("encode", "order")
def longest_from_the_left(ids, merges):
    parts = {(i,): i for i in range(512)}
    spelled = {i: (i,) for i in range(512)}
    for n, (left, right) in enumerate(merges):
        spelled[512 + n] = spelled[left] + spelled[right]
        parts[spelled[512 + n]] = 512 + n
    found = []
    while ids:
        for end in range(len(ids), 0, -1):
            if tuple(ids[:end]) in parts:
                found.append(parts[tuple(ids[:end])])
                ids = ids[end:]
                break
    return found


@bug("encode", "rank")
def number_for_id(ids, merges):
    for n, pair in enumerate(merges):
        ids = join(ids, pair, n)
    return ids


@bug("encode", "all")
def once_each(ids, merges):
    for n, pair in enumerate(merges):
        ids = first_alone(ids, pair, 512 + n)
    return ids


@bug("encode", "order")
def newest_first(ids, merges):
    for n in range(len(merges) - 1, -1, -1):
        ids = join(ids, merges[n], 512 + n)
    return ids
