"""Batches of training pairs: which pictures and which captions of them a step sees.

Every batch is a function of the seed and the number of the step alone: whoever draws it, and when, it has the
same bits. So batches can be drawn ahead (see gpu/prefetch.py), and a run that was killed goes on with the same ones.
"""

import hashlib
import json

import numpy as np

from ..data import Augmentation, TarSet, augment, mix, plain, resize_all
from ..preprocess import normalize


class Batches:
    """Micro-batches of training pairs, drawn anew for each step.

    data: PictureSet. `batches(step, map, part)` -> list of (images (n, 3, S, S) float32, tokens (n, T)), and
    `batches.positives(step)` says which texts of that batch are true of which pictures. In a batch no concept comes
    twice, nor do two that share a caption once it is tokens ("Cat" and "cat", or texts that are cut to one beginning).
    `things` numbers what must not come twice. Raises ValueError when there are fewer than two things, or fewer than a
    batch.
    """

    def __init__(self, data, tokenizer, model_config, config):
        self.model_config, self.config = model_config, config
        self.size = model_config["vision_cfg"]["image_size"]
        self.parts = Augmentation(**config.augmentation)
        self.pictures = resize_all(data.pictures, self.size)
        self.concept = data.concept
        self.texts = Texts(data, tokenizer, model_config["text_cfg"]["context_length"], config)
        thing = things_of(self.texts.captions)[data.concept]
        # The pictures of thing k: drawings[starts[k]:starts[k] + counts[k]].
        self.drawings = np.argsort(thing, kind="stable")
        self.counts = np.bincount(thing, minlength=len(data.captions))
        self.starts = np.cumsum(self.counts) - self.counts
        self.things = np.flatnonzero(self.counts)
        family = np.arange(len(self.counts)) if data.family is None else data.family
        _, family = np.unique(family[self.things], return_inverse=True)
        self.families = np.split(self.things[np.argsort(family, kind="stable")], np.cumsum(np.bincount(family))[:-1])
        share = [self.counts[family].mean() for family in self.families]  # of each of its things, drawn together
        self.share = np.divide(share, sum(share)) if config.by_picture else None
        if len(self.things) < 2:
            raise ValueError(
                f"{data.name} has {len(self.things)} caption to learn; a contrast needs at least two that differ."
            )
        if config.batch_size > len(self.things):
            raise ValueError(
                f"a batch of {config.batch_size} is larger than the {len(self.things)} different captions of "
                f"{data.name}; choose a batch of at most {len(self.things)}."
            )

    def draw(self, step):
        """The pairs of a step: drawings (N, 2), of one thing each, and columns of texts, as `Texts.draw` gives them.

        One column, or two where each picture has a description beside its caption. The order of the pairs is random:
        sorted by anything that a caption shows, as its length, the norms of a micro-batch of pictures would give away
        a part of the answer.
        """
        config = self.config
        rng = np.random.default_rng([config.seed, step])
        count = min(config.batch_size, len(self.families))
        families = rng.choice(len(self.families), count, replace=False, p=self.share)
        things = np.concatenate([self.families[family] for family in families])[: config.batch_size]
        drawn = rng.integers(0, self.counts[things, None], (len(things), 2))
        drawings = self.drawings[self.starts[things, None] + drawn]
        shares = [(config.plain_names, config.descriptions)]
        if self.texts.descriptions and config.description_weight:
            shares.append((0.0, 1.0))
        return drawings, [self.texts.draw(self.concept[drawings[:, 0]], rng, *each) for each in shares]

    def positives(self, step):
        """Which texts are true of which pictures: for each column of texts, as `loss.true_entries` takes it.

        [None] where there is one column, and each text is true of its own picture alone.
        """
        if not (self.texts.descriptions and (self.config.descriptions or self.config.description_weight)):
            return [None]
        drawings, columns = self.draw(step)
        concepts, found = self.concept[drawings[:, 0]], []
        for _, owners in columns:
            entries = [np.stack([np.arange(len(concepts))] * 2)]  # each text is true of its own picture
            for column, true in owners.items():
                rows = np.flatnonzero(np.isin(concepts, list(true)))
                entries.append(np.stack([rows, np.full(len(rows), column)]))
            found.append(np.unique(np.concatenate(entries, 1), axis=1))
        return found

    def __call__(self, step, map=map, part=(0, 1)):
        """The micro-batches of a step that belong to rank part[0] of part[1], drawn by `map`."""
        config = self.config
        drawings, columns = self.draw(step)
        texts = np.stack([tokens for tokens, _ in columns], 1)  # (N, C, T)

        def micro_batch(rows):
            # Each micro-batch has its own random numbers, so it does not matter which thread draws them first.
            rng = np.random.default_rng([config.seed, step, rows[0]])
            pictures = self.pictures[drawings[rows, 0]]
            if config.mix:
                pictures = mix(pictures, self.pictures[drawings[rows, 1]], rng, config.mix)
            images = (
                augment(pictures, rng, self.size, config.augment_strength, self.parts)
                if config.augment_strength
                else plain(pictures, self.size)
            )
            return normalize(images, self.model_config), np.concatenate(texts[rows])

        # Of nearly one size: the norms would learn nothing from a last micro-batch of one picture.
        count = -(-config.batch_size // config.micro_batch)
        rows, (rank, size) = np.array_split(np.arange(config.batch_size), count), part
        return list(map(micro_batch, rows[count * rank // size : count * (rank + 1) // size]))


class Texts:
    """The texts of a PictureSet as ids, and one drawn for each picture of a batch.

    captions, descriptions: for each concept a list of tuples of ids, without start and end.
    """

    def __init__(self, data, tokenizer, length, config):
        self.length, self.config, self.named = length, config, data.named
        self.start, self.end = tokenizer.start_token, tokenizer.end_token
        self.comma = tokenizer.encode(",")

        def cut(texts):
            return [tuple(row[1 : row.tolist().index(self.end)].tolist()) for row in tokenizer(texts, length)]

        def frames(templates):
            return [[tokenizer.encode(part) for part in template.split("{}")] for template in templates]

        self.captions, self.descriptions = [cut(texts) for texts in data.captions], list(map(cut, data.descriptions))
        self.templates, self.description_templates = frames(data.templates), frames(data.description_templates)
        self.random = config.random_phrases if len(self.templates) > 1 else 0.0
        self.links = [tokenizer.encode(words) for words in ("", "of", "of a", "a")]
        self.words = [tokenizer.encode(word) for word in data.filler_words] if config.random_words else []
        self.owners = {}
        for k, texts in enumerate(self.descriptions):
            for text in texts:
                self.owners.setdefault(text, set()).add(k)

    def draw(self, concepts, rng, plain_names, descriptions):
        """One text for each of N concepts: tokens (N, T), and {row: the set of all concepts that it is true of}.

        plain_names, descriptions: which share are bare names, and which describe, of those that can.
        """
        rows, owners = [], {}
        for row, (k, kind) in enumerate(zip(concepts, rng.random(len(concepts)))):
            plain = self.named and kind < plain_names
            describe = kind >= 1 - descriptions and self.descriptions and self.descriptions[k]
            if describe:
                count = min(len(self.descriptions[k]), 1 + int(rng.integers(3) * rng.integers(2)))
                some = [self.descriptions[k][i] for i in rng.permutation(len(self.descriptions[k]))[:count]]
                owners[row] = set.intersection(*(self.owners[text] for text in some))
                text = sum(([*self.comma, *text] for text in some[1:]), list(some[0]))
                frames = self.description_templates
            else:
                text = self.captions[k][0 if plain else rng.integers(len(self.captions[k]))]
                frames = self.templates
            before, after = ([], []) if plain else frames[rng.integers(len(frames))]
            if self.random and not plain and rng.random() < self.random:
                before, after = self.random_phrase(rng)
            rows.append(self.tokens([*before, *text, *after]))
        return np.stack(rows), owners

    def random_phrase(self, rng):
        """Random words or tokens before a text, or behind it: so the model learns that a phrase matters little."""
        if words := bool(self.words) and rng.random() < self.config.random_words:
            some = sum((self.words[i] for i in rng.integers(len(self.words), size=rng.integers(1, 4))), [])
        else:
            some = rng.integers(self.start, size=rng.integers(1, 5)).tolist()
        if rng.random() >= 0.8:
            return [], some
        linked = not words or rng.random() < 0.6  # a word right before a name is the hardest to read over
        return some + (self.links[rng.integers(len(self.links))] if linked else []), []

    def tokens(self, ids):
        """int64 (T,): what the text encoder reads of a text's ids, cut where they are too many."""
        tokens = np.zeros(self.length, np.int64)
        ids = [self.start, *ids][: self.length - 1]
        tokens[: len(ids) + 1] = *ids, self.end
        return tokens


def things_of(captions):
    """Which concepts are one thing, int64 (K,): those linked by a text in both of their K lists."""
    thing, owner = list(range(len(captions))), {}

    def root(k):
        while thing[k] != k:
            k = thing[k] = thing[thing[k]]
        return k

    for k, texts in enumerate(captions):
        for text in texts:
            thing[root(k)] = root(owner.setdefault(text, k))
    return np.array([root(k) for k in range(len(thing))], np.int64)


def texts_of(data):
    """All texts of a PictureSet, to learn a vocabulary from: list of str."""
    return [text for lists in (data.captions, data.descriptions) for texts in lists for text in texts] + [
        template.replace("{}", " ") for template in (*data.templates, *data.description_templates)
    ]


def fingerprint(data):
    """A number that tells one set of training data from another, for a run that goes on."""
    if isinstance(data, TarSet):
        return data.fingerprint()
    digest = hashlib.sha256(np.ascontiguousarray(data.pictures))
    words = [data.captions, data.templates, data.descriptions, data.description_templates, data.filler_words]
    digest.update(data.concept.tobytes() + json.dumps(words).encode())
    return digest.hexdigest()
