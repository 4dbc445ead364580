"""What the tests of checkpoints share: small models, files put together by hand, how a refusal is checked."""

import json
import struct
import tracemalloc
from contextlib import contextmanager
from copy import deepcopy

import numpy as np
import pytest

from miniclip.init import initialize, model_config
from miniclip.model import CLIP
from miniclip.tokenizer import Tokenizer
from miniclip.tree import flatten

TOKENIZER = Tokenizer.train(["a small red circle", "a large red square", "a small blue square"], 540)
TEXT = {"context_length": 8, "vocab_size": TOKENIZER.vocab_size, "width": 8, "heads": 2, "layers": 1}
VISION = {
    "vit": {"image_size": 8, "layers": 2, "width": 16, "head_width": 8, "patch_size": 4},
    "resnet": {"image_size": 32, "layers": [1, 2, 1, 1], "width": 2},
}


def make_clip(kind="vit", seed=0, dtype=np.float32):
    config = model_config("vit-tiny", **TEXT) | {"embed_dim": 12, "vision_cfg": deepcopy(VISION[kind])}
    return CLIP(initialize(config, seed, dtype), config, TOKENIZER, {"seed": seed, "command": "train — β"})


def assert_same_arrays(ours, theirs):
    """The same names, types, shapes and bits, and nothing that cannot be written to."""
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        assert array.dtype == theirs[name].dtype and array.shape == theirs[name].shape and array.flags.writeable, name
        assert array.tobytes() == theirs[name].tobytes(), name


def same(a, b):
    """Whether two models have the same bits and the same configuration."""
    before, after = flatten(a.params), flatten(b.params)
    assert_same_arrays(before, after)
    tokenizers = a.tokenizer.to_json() == b.tokenizer.to_json()
    return list(before) == list(after) and tokenizers and (a.config, a.about) == (b.config, b.about)


def raw(header, body=b"", length=None):
    """A safetensors file from its parts, which need not be right."""
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + body


def entry(shape=(1,), offsets=(0, 4), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def replace_byte(path, place, byte):
    """Write one byte of a file, in place; returns what stood there."""
    with open(path, "r+b") as file:
        file.seek(place)
        old = file.read(1)
        file.seek(place)
        file.write(bytes([byte]))
    return old[0]


def refusal(read, path):
    """The sentence with which `read` refuses a file, which must be one and name the file."""
    with pytest.raises(ValueError) as caught:
        read(path)
    sentence = str(caught.value)
    assert str(path) in sentence and "\n" not in sentence and len(sentence) < 600
    return sentence


@contextmanager
def at_most(size):
    """Fails where more than so many bytes are allocated at a time."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < size
