"""Batches of training pairs: which pictures and which captions of them a step sees.

Every batch is a function of the seed and the number of the step alone: whoever draws it, and when, it has the
same bits. So batches can be drawn ahead (see gpu/prefetch.py), and a run that was killed goes on with the same ones.
"""

import hashlib
import json

import numpy as np

from ..data import Augmentation, augment, mix, plain, resize_all
from ..preprocess import normalize


class Batches:
    """Micro-batches of training pairs, drawn anew for each step.

    data: PictureSet. `batches(step, map)` -> list of (images (n, 3, S, S) float32, tokens (n, T)). In a
    batch no concept comes twice, nor do two that share a caption once it is tokens ("Cat" and "cat", or texts that
    are cut to one beginning): the second picture would be called a wrong match and is none. `things` numbers what
    must not come twice. Raises ValueError when there are fewer than two things, or fewer than a batch.
    """

    def __init__(self, data, tokenizer, model_config, config):
        self.model_config, self.config = model_config, config
        self.size = model_config["vision_cfg"]["image_size"]
        self.parts = Augmentation(**config.augmentation)
        self.pictures = resize_all(data.pictures, self.size)
        length = model_config["text_cfg"]["context_length"]
        self.tokens = [tokenizer(texts, length) for texts in data.captions]
        self.concept, thing = data.concept, things_of(self.tokens)[data.concept]
        # The pictures of thing k: drawings[starts[k]:starts[k] + counts[k]].
        self.drawings = np.argsort(thing, kind="stable")
        self.counts = np.bincount(thing, minlength=len(data.captions))
        self.starts = np.cumsum(self.counts) - self.counts
        self.things = np.flatnonzero(self.counts)
        self.share = self.counts[self.things] / len(thing) if config.by_picture else None
        if len(self.things) < 2:
            raise ValueError(
                f"{data.name} has {len(self.things)} caption to learn; a contrast needs at least two that differ."
            )
        if config.batch_size > len(self.things):
            raise ValueError(
                f"a batch of {config.batch_size} is larger than the {len(self.things)} different captions of "
                f"{data.name}; choose a batch of at most {len(self.things)}."
            )

    def __call__(self, step, map=map):
        config = self.config
        rng = np.random.default_rng([config.seed, step])
        things = rng.choice(self.things, config.batch_size, replace=False, p=self.share)
        drawn = rng.integers(0, self.counts[things, None], (config.batch_size, 2))
        drawings = self.drawings[self.starts[things, None] + drawn]
        concepts = self.concept[drawings[:, 0]]
        texts = [0 if rng.random() < config.plain_names else rng.integers(len(self.tokens[k])) for k in concepts]
        tokens = np.stack([self.tokens[k][text] for k, text in zip(concepts, texts)])
        # Texts of one length into one micro-batch: what is shorter than the longest is only padding.
        order = np.argsort((tokens != 0).sum(1), kind="stable")
        tokens, drawings = tokens[order], drawings[order]

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
            return normalize(images, self.model_config), tokens[rows]

        # Of nearly one size: the norms would learn nothing from a last micro-batch of one picture.
        return list(
            map(micro_batch, np.array_split(np.arange(config.batch_size), -(-config.batch_size // config.micro_batch)))
        )


def things_of(tokens):
    """Which concepts are one thing, int64 (K,): those linked by a row in both of their tokens, K arrays (n, T)."""
    thing, owner = list(range(len(tokens))), {}

    def root(k):
        while thing[k] != k:
            k = thing[k] = thing[thing[k]]
        return k

    for k, rows in enumerate(tokens):
        for row in rows:
            thing[root(k)] = root(owner.setdefault(row.tobytes(), k))
    return np.array([root(k) for k in range(len(thing))], np.int64)


def fingerprint(data):
    """A number that tells one set of training data from another, for a run that goes on."""
    digest = hashlib.sha256(np.ascontiguousarray(data.pictures))
    digest.update(data.concept.tobytes() + json.dumps(data.captions).encode())
    return digest.hexdigest()
