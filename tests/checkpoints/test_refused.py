"""Files that are damaged, hostile or something else: each is refused in one sentence, at no cost."""

import os
import pickle
import tracemalloc
import zipfile
from contextlib import contextmanager

import numpy as np
import pytest
from test_checkpoint import TOKENIZER, entry, make_clip, raw, refusal

import miniclip.checkpoints.safetensors_file as sealed
from miniclip.checkpoints.checkpoint import load, read_arrays, save, write_arrays
from miniclip.tokenizer import Tokenizer
from miniclip.tree import flatten


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)


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


# ---------------------------------------------------------------------------------- damaged files


def replace(path, place, byte):
    """Write one byte of a file, in place; returns what stood there."""
    with open(path, "r+b") as file:
        file.seek(place)
        old = file.read(1)
        file.seek(place)
        file.write(bytes([byte]))
    return old[0]


def test_every_flipped_bit_of_a_small_file_is_refused(tmp_path):
    path = tmp_path / "x"
    write_arrays(path, {"a": np.arange(3.0), "b.c": np.ones((2, 2), np.float16)}, {"k": [1, "two"]})
    whole = path.read_bytes()
    end = 8 + int.from_bytes(whole[:8], "little")
    changes = [(i, whole[i] ^ 1 << bit) for i in range(len(whole)) for bit in range(8)]
    changes += [(end - 1, ord(other)) for other in "\t\n\r}"]  # which JSON would not mind
    for place, byte in changes:
        old = replace(path, place, byte)
        refusal(read_arrays, path)
        replace(path, place, old)
    assert read_arrays(path)[1] == {"k": [1, "two"]}


@pytest.mark.parametrize(
    "old, new", [(b"[2,3]", b"[3,2]"), (b'"F32"', b'"I32"'), (b'"a.b"', b'"a.c"'), (b"two", b"six")]
)
def test_numbers_that_are_read_as_others_are_refused(tmp_path, old, new):
    path = tmp_path / "x"
    write_arrays(path, {"a.b": np.ones((2, 3), np.float32)}, {"k": "two"})
    assert path.read_bytes().count(old) == 1
    path.write_bytes(path.read_bytes().replace(old, new))
    assert "sha256 differs" in refusal(read_arrays, path)


def test_changed_bytes_and_truncations_of_a_model_are_refused(tmp_path):
    path, rng = tmp_path / "x", np.random.default_rng(0)
    save(make_clip(), path)
    whole = path.read_bytes()
    end = 8 + int.from_bytes(whole[:8], "little")
    for place in np.concatenate([np.arange(16), rng.integers(0, end, 500), rng.integers(end, len(whole), 300)]):
        old = replace(path, place, whole[place] ^ int(rng.integers(1, 256)))
        refusal(load, path)
        replace(path, place, old)
    for more in (b"\0", b" ", whole, bytes(4096)):
        path.write_bytes(whole + more)
        refusal(load, path)
    path.write_bytes(whole)
    lengths = {*range(12), end - 1, end, end + 1, len(whole) - 4, len(whole) - 1, *rng.integers(0, len(whole), 60)}
    for length in sorted(lengths, reverse=True):
        os.truncate(path, length)
        sentence = refusal(load, path)
    assert "is empty" in sentence


BIG = 10**12
HOSTILE = {
    "a size that lies": raw({"a": entry([BIG], [0, 4 * BIG])}, bytes(4)),
    "a shape that lies": raw({"a": entry([BIG])}, bytes(4)),
    "a product that overflows": raw({"a": entry([2**32, 2**32])}, bytes(4)),
    "a shape of nothing times everything": raw({"a": entry([0, BIG, BIG], [0, 0])}),
    "65 dimensions": raw({"a": entry([1] * 65)}, bytes(4)),
    "a negative shape": raw({"a": entry([-1])}, bytes(4)),
    "overlapping places": raw({"a": entry(), "b": entry()}, bytes(4)),
    "places with a hole": raw({"a": entry(), "b": entry(offsets=[8, 12])}, bytes(12)),
    "places the wrong way": raw({"a": entry(offsets=[4, 0])}, bytes(4)),
    "bytes that nothing claims": raw({"a": entry()}, bytes(5)),
    "an unknown dtype": raw({"a": entry(dtype="F99")}, bytes(4)),
    "a dtype that NumPy lacks": raw({"a": entry([4], dtype="F8_E4M3")}, bytes(4)),
    "no dtype": raw({"a": {"shape": [1], "data_offsets": [0, 4]}}, bytes(4)),
    "one key too many": raw({"a": entry() | {"more": 1}}, bytes(4)),
    "a header longer than the file": raw({"a": entry()}, bytes(4), length=10**6),
    "the longest header": raw({}, length=2**64 - 1),
    "a huge header": raw(b"{" + b" " * (1 << 23) + b"}"),
    "a header of no length": raw(b"", bytes(100)),
    "deep nesting": raw(b'{"a":' * 500_000),
    "deep lists": raw(b'{"a":' + b"[" * 1_000_000),
    "a list for a header": raw([1, 2]),
    "a header that is no UTF-8": raw(b'{"\xff": 1}'),
    "metadata with a number": raw({"__metadata__": {"miniclip": 1}}),
    "metadata that are a list": raw({"__metadata__": ["miniclip"]}),
    "metadata twice": raw(b'{"__metadata__":{"a":"b"},"__metadata__":{"miniclip":"c"}}'),
    "a seal of nothing": raw({"__metadata__": {"miniclip": ""}}),
    "a seal of other content": raw({"__metadata__": {"miniclip": f"sha256 {'0' * 64} {{}}"}}),
    "sealed metadata that are no JSON": raw({"__metadata__": {"miniclip": sealed._checksum({}, "{")}}),
    "sealed metadata that are a list": raw({"__metadata__": {"miniclip": sealed._checksum({}, "[]")}}),
    "sealed metadata in deep nesting": raw({"__metadata__": {"miniclip": sealed._checksum({}, "[" * 100_000)}}),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_header_is_refused_at_no_cost(tmp_path, what):
    path = tmp_path / "x"
    path.write_bytes(HOSTILE[what])
    with at_most(2 * len(HOSTILE[what]) + 1e6):
        refusal(read_arrays, path)
    refusal(load, path)


class Malice:
    def __reduce__(self):
        return os.mkdir, ("ran",)


def test_another_kind_of_file_is_called_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile("model.pt", "w") as archive:
        archive.writestr("model/data.pkl", pickle.dumps(Malice()))
    for name, content, kind in (
        ("x.pkl", pickle.dumps(Malice()), "pickle"),
        ("y.pkl", pickle.dumps(Malice(), 2), "pickle"),
        ("x.html", b"<!DOCTYPE html><html>404</html>", "web page"),
        ("x.json", b'{"config": {}, "text": 1}', "JSON"),
        ("lfs", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS"),
        ("text", b"these are no weights", "something else"),
    ):
        (tmp_path / name).write_bytes(content)
        assert kind in refusal(load, tmp_path / name)
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(ord("<"))
    (tmp_path / "short").write_bytes(raw(header, b"\0\0"))
    assert "cut short" in refusal(load, tmp_path / "short")
    assert "zip" in refusal(load, tmp_path / "model.pt") and not (tmp_path / "ran").exists()


# ------------------------------------------------------------- whole files that are not this model


def rewrite(path, arrays=lambda a: a, **metadata):
    """Save a model with other arrays or metadata and a seal that is right."""
    clip = make_clip()
    notes = {"config": clip.config, "tokenizer": clip.tokenizer.to_json(), "about": {}} | metadata
    write_arrays(path, arrays(flatten(clip.params)), {k: v for k, v in notes.items() if v != "left out"})


def test_another_architecture_names_the_first_parameters_that_differ(tmp_path):
    rewrite(tmp_path / "x", config=make_clip("resnet").config)
    sentence = refusal(load, tmp_path / "x")
    assert "another architecture" in sentence and "visual.conv1.weight is (16, 3, 4, 4), not (1, 3, 3, 3)" in sentence
    assert "visual.bn1.weight is missing; visual.bn1.bias is missing; and " in sentence
    rewrite(tmp_path / "x", lambda a: a | {"head.weight": np.ones(3)})
    assert "head.weight is superfluous" in refusal(load, tmp_path / "x")
    rewrite(tmp_path / "x", lambda a: a | {"ln_final.bias": np.ones(9)})
    assert "ln_final.bias is (9,), not (8,)" in refusal(load, tmp_path / "x")


@pytest.mark.parametrize("bad, culprit", [(np.full(8, np.inf), "not finite"), (np.ones(8, int), "int64")])
def test_a_parameter_that_is_no_finite_float_is_refused(tmp_path, bad, culprit):
    rewrite(tmp_path / "x", lambda a: a | {"ln_final.bias": bad})
    sentence = refusal(load, tmp_path / "x")
    assert "ln_final.bias" in sentence and culprit in sentence


@pytest.mark.parametrize(
    "part, key, value",
    [
        *[
            (*key.split("."), value)
            for key in (
                "vision_cfg.width",
                "vision_cfg.layers",
                "vision_cfg.image_size",
                "text_cfg.vocab_size",
                "text_cfg.layers",
                "text_cfg.heads",
            )
            for value in (10**9, 0, -1, 2.0, "8", None, True, [10**9] * 4, {}, 10**400)
        ],
        ("vision_cfg", "layers", [1] * 100_000),
        ("vision_cfg", "head_width", 5),
        ("vision_cfg", "image_size", 3),
        ("text_cfg", "heads", 3),
        ("preprocess", "mean", [0, 0]),
        ("preprocess", "mean", [0, "0", 0]),
        ("preprocess", "std", [1, 0, 1]),
        ("preprocess", "std", None),
        *[
            (None, key, value)
            for key in ("embed_dim", "vision_cfg", "text_cfg", "preprocess", "quick_gelu")
            for value in (None, "x", 10**9, [])
        ],
        ("vision_cfg", "layers", [1, 1, 1, 10**9]),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused_at_no_cost(tmp_path, part, key, value):
    config = make_clip().config
    (config[part] if part else config)[key] = value
    rewrite(tmp_path / "x", config=config)
    with at_most(20 * (tmp_path / "x").stat().st_size):  # Python's integers take 16 times their JSON
        assert key in refusal(load, tmp_path / "x")


def test_a_configuration_of_the_largest_size_costs_no_memory(tmp_path):
    config = make_clip().config
    config["vision_cfg"] |= {"width": 1 << 14, "image_size": 1 << 12, "patch_size": 1, "layers": 256}
    config["text_cfg"] |= {"width": 1 << 14, "vocab_size": 1 << 20, "layers": 256}
    rewrite(tmp_path / "x", config=config)
    with at_most(1e7):
        assert "another architecture" in refusal(load, tmp_path / "x")


@pytest.mark.parametrize(
    "metadata, culprit",
    [
        ({"config": "left out"}, "no config"),
        ({"config": [1]}, "no config"),
        ({"about": 3}, "no about"),
        ({"tokenizer": "left out"}, "no tokenizer"),
        ({"tokenizer": {"merges": [1]}}, "tokenizer"),
        ({"tokenizer": Tokenizer(TOKENIZER.merges[:-1]).to_json()}, "do not belong together"),
    ],
)
def test_metadata_of_another_kind_are_refused(tmp_path, metadata, culprit):
    rewrite(tmp_path / "x", **metadata)
    assert culprit in refusal(load, tmp_path / "x")
