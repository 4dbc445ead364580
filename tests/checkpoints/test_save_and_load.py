"""Models on disk in one file: what is saved comes back, and what is damaged or no model is refused at no cost."""

import os
from dataclasses import replace

import numpy as np
import pytest
from checkpoint_files import TOKENIZER, VISION, at_most, make_clip, refusal, replace_byte, same
from safetensors.numpy import load_file, save_file

from miniclip import load, save
from miniclip.checkpoints import write_arrays
from miniclip.checkpoints.validate import check_config
from miniclip.data import emoji_pictures
from miniclip.init import MODELS, initialize, model_config, parameter_shapes
from miniclip.tokenizer import Tokenizer
from miniclip.training import preset
from miniclip.tree import flatten


def rewrite(path, arrays=lambda a: a, kind="vit", **metadata):
    """Save a model with other arrays or metadata and a checksum that is right."""
    clip = make_clip(kind)
    notes = {"config": clip.config, "tokenizer": clip.tokenizer.to_json(), "about": {}} | metadata
    write_arrays(path, arrays(flatten(clip.params)), {k: v for k, v in notes.items() if v != "left out"})
    return path


# ------------------------------------------------------------------------------------- round trips


@pytest.mark.parametrize("kind", VISION)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_model_comes_back_to_the_bit(tmp_path, kind, dtype):
    clip = make_clip(kind, dtype=dtype)
    save(clip, tmp_path / "model.safetensors")
    for place in (tmp_path, tmp_path / "model.safetensors", str(tmp_path)):
        again = load(place)
        assert same(again, clip)
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


def test_the_same_model_gives_the_same_bytes_with_openais_names(tmp_path):
    for name, kind in (("a", "vit"), ("b", "vit"), ("resnet", "resnet")):
        save(make_clip(kind), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert load_file(tmp_path / "a")["visual.transformer.resblocks.1.attn.in_proj_weight"].shape == (48, 16)
    assert load_file(tmp_path / "resnet")["visual.layer2.0.downsample.1.running_var"].shape == (16,)


def test_counters_of_batches_are_left_out(tmp_path):
    path = rewrite(tmp_path / "x", lambda a: a | {"visual.bn1.num_batches_tracked": np.array(7)}, "resnet")
    assert flatten(load(path).params).keys() == flatten(make_clip("resnet").params).keys()


@pytest.mark.parametrize("name", MODELS)
def test_shapes_are_known_without_making_the_arrays(name):
    config = model_config(name)
    check_config(config, "this test")
    assert list(parameter_shapes(config).items()) == [(n, a.shape) for n, a in flatten(initialize(config)).items()]


def test_the_model_in_the_package():
    """Its notes say how it was made, and it knows pictures in a style that it never saw."""
    clip = load("emoji")
    for about, name in ((clip.about["from"], "full"), (clip.about, "words")):
        assert about["config"]["steps"] == preset(name).steps == about["step"] and about["config"]["seed"] == 0
        assert f"--preset {name}" in about["command"] and len(about["commit"]) == 7
    assert clip.about["classify"]["fitted_on"]["data"] == "openclipart"
    assert list(flatten(clip.params)) == list(parameter_shapes(clip.config))
    assert all(leaf.dtype == np.float32 and np.isfinite(leaf).all() for leaf in flatten(clip.params).values())
    names = {
        "1f34e": "red apple",
        "1f697": "automobile",
        "2b50": "star",
        "26bd": "soccer ball",
        "1f600": "grinning face",
    }
    pictures, codes = emoji_pictures("fluent")
    likely = clip.classify(pictures[[codes.index(code) for code in names]], list(names.values()))
    assert np.diag(likely).min() > 0.8


def test_what_is_not_there_is_said_so(tmp_path, monkeypatch):
    for name, part in (("emojis", "there is no emojis"), (tmp_path, "there is no .*model.safetensors")):
        with pytest.raises(FileNotFoundError, match=part):
            load(name)
    monkeypatch.setattr("importlib.resources.files", lambda _: tmp_path)
    with pytest.raises(FileNotFoundError, match="'emoji' is missing"):
        load("emoji")
    (tmp_path / "models").mkdir()
    save(make_clip(), tmp_path / "models" / "emoji.safetensors")
    assert same(load("emoji"), make_clip())


def test_what_load_would_refuse_is_not_saved(tmp_path):
    """An `about` of another kind, a tokenizer of another model; the same for the layouts of others."""
    for layout in ("miniclip", "open_clip", "huggingface"):
        for change, said in (
            ({"about": None}, "about"),
            ({"about": ["x"]}, "about"),
            ({"about": {"x": [[]] * 50_000}}, "metadata"),
            ({"tokenizer": Tokenizer(TOKENIZER.merges[:-1])}, "do not belong together"),
            ({"config": make_clip().config | {"preprocess": {"resize_mode": "longest"}}}, "resize_mode is 'longest'"),
        ):
            with pytest.raises(ValueError, match=said):
                save(replace(make_clip(), **change), tmp_path / "x", layout)
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_is_no_file_and_nobody_waits_for_it(tmp_path):
    os.mkfifo(tmp_path / "x")
    assert "there is no file" in refusal(load, tmp_path / "x")
    with pytest.raises(ValueError, match="is no file, so"):
        save(make_clip(), tmp_path / "x")
    save(make_clip(), tmp_path / "open", "open_clip")
    weights = tmp_path / "open" / "open_clip_model.safetensors"
    save_file(load_file(weights), weights)
    for name in ("vocab.json", "merges.txt", "open_clip_config.json"):
        (tmp_path / "open" / name).unlink()
        os.mkfifo(tmp_path / "open" / name)
        refusal(load, tmp_path / "open")


def test_a_model_that_cannot_be_saved_leaves_the_old_file(tmp_path):
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
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["x"]


# ---------------------------------------------------------------------------------- damaged files


def test_changed_bytes_and_truncations_of_a_model_are_refused(tmp_path):
    path, rng = tmp_path / "x", np.random.default_rng(0)
    save(make_clip(), path)
    whole = path.read_bytes()
    end = 8 + int.from_bytes(whole[:8], "little")
    for place in np.concatenate([np.arange(16), rng.integers(0, end, 500), rng.integers(end, len(whole), 300)]):
        old = replace_byte(path, place, whole[place] ^ int(rng.integers(1, 256)))
        refusal(load, path)
        replace_byte(path, place, old)
    for more in (b"\0", b" ", whole, bytes(4096)):
        path.write_bytes(whole + more)
        refusal(load, path)
    path.write_bytes(whole)
    lengths = {*range(12), end - 1, end, end + 1, len(whole) - 4, len(whole) - 1, *rng.integers(0, len(whole), 60)}
    for length in sorted(lengths, reverse=True):
        os.truncate(path, length)
        sentence = refusal(load, path)
    assert "is empty" in sentence


# ------------------------------------------------------------- whole files that are not this model


def test_another_architecture_names_the_first_parameters_that_differ(tmp_path):
    sentence = refusal(load, rewrite(tmp_path / "x", config=make_clip("resnet").config))
    assert "another architecture" in sentence and "visual.conv1.weight is (16, 3, 4, 4), not (1, 3, 3, 3)" in sentence
    assert "visual.bn1.weight is missing; visual.bn1.bias is missing; and " in sentence


WRONG = [  # parameter, what stands there, what is said
    ("head.weight", np.ones(3), "head.weight is superfluous"),
    ("ln_final.bias", np.ones(9), "ln_final.bias is (9,), not (8,)"),
    ("ln_final.bias", np.full(8, np.inf), "ln_final.bias is not finite"),
    ("ln_final.bias", np.ones(8, int), "ln_final.bias is int64"),
]


@pytest.mark.parametrize("name, array, said", WRONG)
def test_a_parameter_that_does_not_fit_is_named(tmp_path, name, array, said):
    assert said in refusal(load, rewrite(tmp_path / "x", lambda a: a | {name: array}))


BIG = 10**9
NUMBERS = "vision_cfg.width vision_cfg.layers vision_cfg.image_size text_cfg.vocab_size text_cfg.layers text_cfg.heads"
NONSENSE = [(key, v) for key in NUMBERS.split() for v in (BIG, 0, -1, 2.0, "8", None, True, [BIG] * 4, {}, BIG**44)]
PARTS = "embed_dim vision_cfg text_cfg preprocess quick_gelu"
NONSENSE += [(key, value) for key in PARTS.split() for value in (None, "x", 10**9, [])]
NONSENSE += [
    *[("vision_cfg.layers", value) for value in ([1] * 100_000, [1, 1, 1, 10**9])],
    *[("preprocess.mean", value) for value in ([0, 0], [0, "0", 0])],
    *[("preprocess.std", value) for value in ([1, 0, 1], None)],
    *[("text_cfg.eos_token_id", value) for value in (-1, 10**6, "1")],
    *[("text_cfg.mlp_ratio", value) for value in (0, 65, 0.01, "4")],
    ("vision_cfg.head_width", 5),
    ("vision_cfg.image_size", 3),
    ("text_cfg.heads", 3),
]


@pytest.mark.parametrize("key, value", NONSENSE)
def test_a_configuration_that_makes_no_sense_is_refused_at_no_cost(tmp_path, key, value):
    config = make_clip().config
    *part, last = key.split(".")
    (config[part[0]] if part else config)[last] = value
    path = rewrite(tmp_path / "x", config=config)
    with at_most(20 * path.stat().st_size):  # Python's integers take 16 times their JSON
        assert last in refusal(load, path)


def test_a_configuration_of_the_largest_size_costs_no_memory(tmp_path):
    config = make_clip().config
    config["vision_cfg"] |= {"width": 1 << 14, "image_size": 1 << 12, "patch_size": 1, "layers": 256}
    config["text_cfg"] |= {"width": 1 << 14, "vocab_size": 1 << 20, "layers": 256}
    path = rewrite(tmp_path / "x", config=config)
    with at_most(1e7):
        assert "another architecture" in refusal(load, path)


OTHER_METADATA = [
    ({"config": "left out"}, "no config"),
    ({"config": [1]}, "no config"),
    ({"about": 3}, "no about"),
    ({"tokenizer": "left out"}, "no tokenizer"),
    ({"tokenizer": {"merges": [1]}}, "tokenizer"),
    ({"tokenizer": Tokenizer(TOKENIZER.merges[:-1]).to_json()}, "do not belong together"),
    ({"files": {}}, "text_cfg.heads"),  # of the shapes, as if it were OpenAI's
    ({"files": {"../x.json": ""}}, "`save` did not write it"),
    ({"files": 3}, "`save` did not write it"),
]


@pytest.mark.parametrize("metadata, culprit", OTHER_METADATA)
def test_metadata_of_another_kind_are_refused(tmp_path, metadata, culprit):
    assert culprit in refusal(load, rewrite(tmp_path / "x", **metadata))
