"""Models on disk: what is written comes back to the bit, and is written whole or not at all."""

import json
import os
import random
import signal
import struct
import subprocess
import sys
import time
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import miniclip
from miniclip.checkpoints.checkpoint import check_config, load, read_arrays, save, write_arrays
from miniclip.init import MODELS, initialize, model_config, parameter_shapes
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


def raw(header, body=b"", length=None):
    """A safetensors file from its parts, which need not be right."""
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + body


def entry(shape=(1,), offsets=(0, 4), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def refusal(read, path):
    """The sentence with which `read` refuses a file, which must be one and name the file."""
    with pytest.raises(ValueError) as caught:
        read(path)
    sentence = str(caught.value)
    assert str(path) in sentence and "\n" not in sentence and len(sentence) < 600
    return sentence


# ----------------------------------------------------------------------------------- round trips


@pytest.mark.parametrize("kind", VISION)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_model_comes_back_to_the_bit(tmp_path, kind, dtype):
    clip = make_clip(kind, dtype=dtype)
    save(clip, tmp_path / "model.safetensors")
    for place in (tmp_path, tmp_path / "model.safetensors", str(tmp_path)):
        again = load(place)
        before, after = flatten(clip.params), flatten(again.params)
        assert list(before) == list(after)
        assert all(
            before[n].tobytes() == after[n].tobytes()
            and before[n].dtype == after[n].dtype
            and before[n].shape == after[n].shape
            and after[n].flags.writeable
            for n in before
        )
        assert (again.config, again.about) == (clip.config, clip.about)
        assert again.tokenizer.to_json() == clip.tokenizer.to_json()
    np.testing.assert_array_equal(again.encode_text(["red"]), clip.encode_text(["red"]))
    picture = np.random.default_rng(0).integers(0, 256, (2, 20, 30, 3), np.uint8)
    np.testing.assert_array_equal(again.encode_image(picture), clip.encode_image(picture))


@pytest.mark.parametrize("kind", VISION)
def test_half_precision_comes_back_within_half_precision(tmp_path, kind):
    clip = make_clip(kind)
    save(clip, tmp_path / "half", half=True)
    save(clip, tmp_path / "full")
    assert (tmp_path / "half").stat().st_size < 0.75 * (tmp_path / "full").stat().st_size
    again = flatten(load(tmp_path / "half").params)
    for name, array in flatten(clip.params).items():
        assert again[name].dtype == np.float32
        np.testing.assert_allclose(again[name], array, rtol=2**-11 if array.ndim > 1 else 0, atol=2**-25)


def test_parameter_names_are_those_of_openai(tmp_path):
    save(make_clip(), tmp_path / "vit")
    save(make_clip("resnet"), tmp_path / "resnet")
    assert load_file(tmp_path / "vit")["visual.transformer.resblocks.1.attn.in_proj_weight"].shape == (48, 16)
    assert load_file(tmp_path / "resnet")["visual.layer2.0.downsample.1.running_var"].shape == (16,)


@pytest.mark.parametrize("name", MODELS)
def test_shapes_are_known_without_making_the_arrays(name):
    config = model_config(name)
    check_config(config, "this test")
    made = flatten(initialize(config))
    assert list(parameter_shapes(config).items()) == [(n, a.shape) for n, a in made.items()]


def test_arrays_of_any_layout_and_type_come_back(tmp_path):
    rng = np.random.default_rng(0)
    a = rng.standard_normal((6, 4, 3))
    arrays = {
        "c": a,
        "transposed": a.T,
        "strided": a[::2, :, ::-1],
        "fortran": np.asfortranarray(a),
        "repeated": np.broadcast_to(a[0], (3, 4, 3)),
        "scalar": np.array(2.5),
        "empty": np.zeros((0, 3), "f4"),
        **{
            t: rng.integers(0, 100, (3, 5)).astype(t).T
            for t in ("f2", "f4", *(kind + size for kind in "iu" for size in "1248"))
        },
    }
    metadata = {"text": 'é " \\ \n \ud800', "nested": [1, 2.5, None, True, {"a": []}]}
    write_arrays(tmp_path / "x", arrays, metadata)
    again, notes = read_arrays(tmp_path / "x")
    assert notes == metadata and again.keys() == arrays.keys()
    assert all(
        np.array_equal(again[n], arrays[n]) and again[n].dtype == arrays[n].dtype and again[n].shape == arrays[n].shape
        for n in arrays
    )


def test_the_same_content_gives_the_same_bytes(tmp_path):
    for name in "ab":
        save(make_clip(), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_file_from_elsewhere_is_read_with_bfloat16_and_batch_counters(tmp_path):
    save_file({"a": np.ones((2, 3), np.float16)}, tmp_path / "x", {"format": "pt"})
    arrays, notes = read_arrays(tmp_path / "x")
    assert notes == {"format": "pt"} and np.array_equal(arrays["a"], np.ones((2, 3)))
    values = np.array([1, -2.5, 3e38, np.inf, 0], np.float32)
    upper = (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    (tmp_path / "x").write_bytes(raw({"a": entry([5], [0, 10], "BF16")}, upper))
    assert read_arrays(tmp_path / "x")[0]["a"].dtype == np.float32
    np.testing.assert_allclose(read_arrays(tmp_path / "x")[0]["a"], values, rtol=2**-7)
    assert "no config" in refusal(load, tmp_path / "x")

    clip = make_clip("resnet")
    write_arrays(
        tmp_path / "x",
        flatten(clip.params) | {"visual.bn1.num_batches_tracked": np.array(7)},
        {"config": clip.config, "tokenizer": clip.tokenizer.to_json(), "about": {}},
    )
    assert flatten(load(tmp_path / "x").params).keys() == flatten(clip.params).keys()


# --------------------------------------------------------------------------- writing, whole or not


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path, clip = tmp_path / "x", make_clip()
    save(clip, path)
    before = path.read_bytes()
    clip.params["ln_final"]["bias"][3] = np.nan
    with pytest.raises(ValueError, match="ln_final.bias is not finite"):
        save(clip, path)
    clip.params["ln_final"]["bias"][3] = 0
    clip.params["text_projection"][0, 0] = 1e5
    with pytest.raises(ValueError, match="text_projection is not finite in float16"):
        save(clip, path, half=True)
    del clip.params["text_projection"]
    with pytest.raises(ValueError, match="text_projection is missing"):
        save(clip, path)
    for arrays, metadata, culprit in (
        ({"a": np.ones(2, object)}, {}, "a of dtype object"),
        ({"a": np.ones(2, complex)}, {}, "a of dtype complex128"),
        ({"__metadata__": np.ones(2)}, {}, "__metadata__"),
        ({}, {"x": float("nan")}, "metadata"),
        ({}, {"x": object()}, "metadata"),
        ({}, {"x": "x" * (1 << 22)}, "bytes"),
    ):
        with pytest.raises(ValueError, match=culprit):
            write_arrays(path, arrays, metadata)
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        write_arrays(path, {"a": np.ones(2)}, {})
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["x"]


def test_where_nothing_can_be_written(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder .*nowhere"):
        write_arrays(tmp_path / "nowhere" / "x", {}, {})
    with pytest.raises(ValueError, match="is no file"):
        write_arrays(tmp_path, {}, {})
    assert os.listdir(tmp_path) == []


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_arrays(tmp_path / "link", {"a": np.ones(2)}, {})
    assert (tmp_path / "link").is_symlink() and read_arrays(tmp_path / "target")[1] == {}


WRITER = """
import os, signal, sys
import numpy as np
from miniclip.checkpoints.checkpoint import write_arrays
path, die_in = sys.argv[1:]
for k in range(1_000_000):
    if k and die_in:
        setattr(os, die_in, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    write_arrays(path, {"a": np.full(1_000_000, k), "b": np.full((3, 5), k)}, {"k": k})
    if k == 0:
        print("written", flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize("die_in", ["fsync", "replace", "", "", "", ""])
def test_sigkill_in_the_middle_of_a_write_leaves_a_whole_file(tmp_path, die_in):
    path = tmp_path / "state.safetensors"
    command = [sys.executable, "-c", WRITER, str(path), die_in]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(miniclip.__file__).parents[1]) as process:
        assert process.stdout.readline() == b"written\n"
        if not die_in:
            time.sleep(random.Random(os.urandom(4)).uniform(0, 0.15))
            process.kill()
        assert process.wait() == -signal.SIGKILL
    arrays, metadata = read_arrays(path)
    assert all((a == metadata["k"]).all() for a in arrays.values())
    if die_in:
        assert metadata["k"] == 0 and sorted(os.listdir(tmp_path)) == [path.name, path.name + ".tmp"]
    write_arrays(path, {}, {"k": -1})
    assert read_arrays(path) == ({}, {"k": -1}) and os.listdir(tmp_path) == [path.name]


def test_what_is_not_there_is_said_so(tmp_path, monkeypatch):
    for name, part in (("emojis", "there is no emojis"), (tmp_path, "there is no .*model.safetensors")):
        with pytest.raises(FileNotFoundError, match=part):
            load(name)
    with pytest.raises(FileNotFoundError, match="no file .*gone"):
        read_arrays(tmp_path / "gone")
    monkeypatch.setattr("importlib.resources.files", lambda _: tmp_path)
    with pytest.raises(FileNotFoundError, match="'emoji' is missing"):
        load("emoji")
    (tmp_path / "models").mkdir()
    save(make_clip(), tmp_path / "models" / "emoji.safetensors")
    assert load("emoji").config == make_clip().config
