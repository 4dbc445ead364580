"""A CLIP whose embeddings are known: what the tests of zero-shot use and of search share."""

import numpy as np


def unit(rng, *shape, dtype=np.float32):
    """Random rows of length 1."""
    x = rng.standard_normal(shape)
    return (x / np.sqrt((x * x).sum(-1, keepdims=True))).astype(dtype)


class FakeClip:
    """Every text has its own random direction; a picture's is that of the text its corner pixel counts."""

    def __init__(self, texts=(), width=16):
        self.texts, self.width = list(texts), width

    def encode_text(self, texts):
        return np.stack([unit(np.random.default_rng(list(text.encode())), self.width) for text in texts])

    def encode_image(self, pictures):
        assert pictures.dtype == np.uint8 and pictures.shape[1:] == (4, 4, 4)
        return self.encode_text([self.texts[picture[0, 0, 0]] for picture in pictures])


def pictures_of(indices):
    """Pictures whose corner pixels count `indices`."""
    pictures = np.full((len(indices), 4, 4, 4), 255, np.uint8)
    pictures[:, 0, 0, 0] = indices
    return pictures
