"""Models in the layouts of open_clip, Hugging Face and OpenAI: written, read, and refused where they cannot be run.

The libraries themselves read and write them in tests/parity.
"""

import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from checkpoint_files import TOKENIZER, make_clip, refusal, same
from safetensors.numpy import load_file, save_file

from miniclip import load, save
from miniclip.checkpoints import amend
from miniclip.checkpoints.huggingface import config_from_huggingface
from miniclip.checkpoints.openai import config_from_open_clip, mlp_ratio
from miniclip.init import initialize, model_config
from miniclip.tokenizer import Tokenizer
from miniclip.tree import flatten


def without_checksum(clip, folder, layout):
    """Save a model and write its weights again as others do; returns their path."""
    save(clip, folder, layout)
    path = next(folder.glob("*.safetensors"))
    save_file(load_file(path), path)
    return path


def change_json(path, where, key, value):
    """Set one key of a JSON file, in the dict that is called `where`, at any depth; or at the top."""
    whole = json.loads(path.read_text())
    parts = [whole, *(part for part in whole.values() if isinstance(part, dict))]
    next((part[where] for part in parts if where in part), whole)[key] = value
    path.write_text(json.dumps(whole))


# ------------------------------------------------------------------------------------- our own round trips


@pytest.mark.parametrize("layout, kind", [("open_clip", "vit"), ("open_clip", "resnet"), ("huggingface", "vit")])
@pytest.mark.parametrize("half", [False, True])
def test_what_is_saved_comes_back_to_the_bit(tmp_path, layout, kind, half):
    clip = make_clip(kind)
    clip.config["vision_cfg"] |= {"head_width": 8 if kind == "vit" else 4}
    save(clip, tmp_path / "a", layout, half=half)
    once = load(tmp_path / "a")
    assert half or same(once, clip)
    save(once, tmp_path / "b", layout=layout, half=half)
    assert same(load(tmp_path / "b"), once)
    weights = next((tmp_path / "a").glob("*.safetensors"))
    for name in os.listdir(tmp_path / "a"):  # the weights' two entries of metadata have no fixed order
        a, b = ((tmp_path / folder / name).read_bytes() for folder in "ab")
        assert a == b if name != weights.name else len(a) == len(b)
    assert same(load(weights), once) and same(load(str(tmp_path / "a")), once)


@pytest.mark.parametrize("layout", ["miniclip", "open_clip", "huggingface"])
@pytest.mark.parametrize("half", [False, True])
def test_what_is_added_to_about_leaves_the_rest_as_it_was(tmp_path, layout, half):
    clip, place = make_clip(), tmp_path / "model.safetensors" if layout == "miniclip" else tmp_path / "a"
    save(clip, place, layout, half=half)
    before, loaded = load_file(place if layout == "miniclip" else next(place.glob("*.safetensors"))), load(place)
    path = amend(place, {"classify": {"scale": 3.5}, "seed": 7})
    assert not list(tmp_path.rglob("*.tmp")) and path.suffix == ".safetensors"
    after = load_file(path)
    assert list(after) == list(before) and all(after[name].tobytes() == before[name].tobytes() for name in before)
    assert all(after[name].dtype == before[name].dtype for name in before)
    loaded.about |= {"classify": {"scale": 3.5}, "seed": 7}
    assert same(load(place), loaded) and loaded.about["command"] == "train — β"


def test_nothing_is_added_to_what_others_saved(tmp_path):
    path = without_checksum(make_clip(), tmp_path / "a", "open_clip")
    was = path.read_bytes()
    with pytest.raises(ValueError, match="not a file that miniclip saved"):
        amend(path, {"classify": 1})
    save(make_clip(), tmp_path / "b")
    with pytest.raises(ValueError, match="cannot be written as JSON"):
        amend(tmp_path / "b", {"classify": float("nan")})
    assert path.read_bytes() == was and same(load(tmp_path / "b"), make_clip())


@pytest.mark.parametrize("layout", ["open_clip", "huggingface"])
def test_every_flipped_bit_of_every_file_is_refused(tmp_path, layout):
    rng, folder = np.random.default_rng(0), tmp_path / layout
    save(make_clip(), folder, layout)
    for file in sorted(folder.iterdir()):
        whole = file.read_bytes()
        places = rng.choice(len(whole), min(len(whole), 60), replace=False)
        for place in [*places, *range(min(40, len(whole)))]:
            changed = bytearray(whole)
            changed[place] ^= 1 << int(rng.integers(8))
            file.write_bytes(changed)
            refusal(load, folder)
        file.unlink()
        with pytest.raises((ValueError, FileNotFoundError)):
            load(folder)
        file.write_bytes(whole)
    assert same(load(folder), make_clip())


def test_files_of_two_saves_do_not_go_together(tmp_path):
    for seed, name in enumerate("ab"):
        save(make_clip(seed=seed), tmp_path / name, "huggingface")
    other = replace(make_clip(), config=make_clip().config | {"quick_gelu": False})
    save(other, tmp_path / "c", "huggingface")
    shutil.copy(tmp_path / "c" / "config.json", tmp_path / "a" / "config.json")
    assert "config.json is not the one that was written with model.safetensors" in refusal(load, tmp_path / "a")
    os.remove(tmp_path / "b" / "vocab.json")
    assert "vocab.json is missing" in refusal(load, tmp_path / "b")


@pytest.mark.parametrize("after", [0, 1, 2, 3, 4])
def test_a_save_that_fails_between_two_files_never_loads_wrongly(tmp_path, monkeypatch, after):
    """Before the first is replaced, the disk being full, nothing has changed; later, it is seen."""
    folder, old, new = tmp_path / "model", make_clip(), make_clip(seed=1)
    new.config = new.config | {"quick_gelu": False}
    save(old, folder, "huggingface")
    real, count, before = os.replace, iter(range(100)), {file: file.read_bytes() for file in folder.iterdir()}
    monkeypatch.setattr(os, "replace", lambda a, b: real(a, b) if next(count) < after else 1 / 0)
    if not after:
        monkeypatch.setattr(os, "fsync", lambda _: 1 / 0 if next(count) == 3 else None)
    with pytest.raises(ZeroDivisionError):
        save(new, folder, "huggingface")
    assert after or {file: file.read_bytes() for file in folder.iterdir()} == before
    try:
        assert same(load(folder), old)
    except ValueError as error:
        assert after and "is not the one that was written" in str(error)
    monkeypatch.undo()
    save(new, folder, "huggingface")
    assert same(load(folder), new)


def test_what_cannot_be_saved_is_said(tmp_path):
    clip, resnet, other = make_clip(), make_clip("resnet"), replace(make_clip(), tokenizer=Tokenizer([]))
    save(clip, tmp_path / "file")
    save(clip, tmp_path / "x", "open_clip")
    for model, place, layout, error, said in (
        (clip, "y", "onnx", ValueError, "there is no layout 'onnx'"),
        (resnet, "y", "huggingface", ValueError, "CLIPModel has no ResNet.*open_clip"),
        (clip, "nowhere/x", "open_clip", FileNotFoundError, "no folder .*nowhere"),
        (clip, "file", "open_clip", ValueError, "is a file"),
        (clip, "x", "huggingface", ValueError, "already holds open_clip_model.safetensors"),
        (other, "y", "open_clip", ValueError, "do not belong together"),
    ):
        with pytest.raises(error, match=said):
            save(model, tmp_path / place, layout)
    assert sorted(os.listdir(tmp_path)) == ["file", "x"]


# ------------------------------------------------------------------------------------------------- OpenAI


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_a_lone_safetensors_file_of_openais_names(tmp_path, kind):
    config, path = (
        model_config("vit-tiny", context_length=8, vocab_size=49408, width=64, heads=1, layers=1),
        tmp_path / "x",
    )
    vit = {"image_size": 24, "layers": 2, "width": 64, "patch_size": 8, "mlp_ratio": 97 / 64}
    resnet = {"image_size": 64, "layers": [2, 1, 3, 1], "width": 8}
    config |= {"embed_dim": 20, "vision_cfg": vit if kind == "vit" else resnet}
    arrays = {name: array.astype(np.float16) for name, array in flatten(initialize(config)).items()}
    save_file(arrays, path, {"format": "pt"})
    said = {"quick_gelu": True, "head_width": 64}
    clip = load(path, **said)
    assert clip.config == config and clip.params["ln_final"]["weight"].dtype == np.float32
    del arrays["ln_final.bias"]
    save_file(arrays | {"logit_bias": np.zeros(1, np.float32)}, path)
    sentence = refusal(load, path)
    assert "ln_final.bias is missing" in sentence and "logit_bias is superfluous" in sentence
    kernel = "visual.conv1.weight" if kind == "vit" else "visual.layer1.0.conv1.weight"
    for name in ("text_projection", "positional_embedding", kernel):
        save_file({n: a for n, a in arrays.items() if n != name}, path)
        assert f"{name} is missing" in refusal(load, path)


def test_a_ratio_gives_the_hidden_width_again():
    for width in (1, 48, 49, 64, 97, 768, 1000):
        assert all(int(width * mlp_ratio(hidden, width)) == hidden for hidden in range(1, 3000))


# ---------------------------------------------------------------------------------------------- open_clip


def test_open_clips_defaults_hold_where_its_json_says_nothing():
    vision, text = {"patch_size": 32, "ls_init_value": None}, {"hf_tokenizer_name": ""}
    assert config_from_open_clip({"model_cfg": {"embed_dim": 512, "vision_cfg": vision, "text_cfg": text}}) == {
        "quick_gelu": False,
        "embed_dim": 512,
        "preprocess": model_config("vit-tiny")["preprocess"],
        "vision_cfg": {"image_size": 224, "layers": 12, "width": 768, "patch_size": 32},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12},
    }
    resnet = {"embed_dim": 8, "vision_cfg": {"layers": [3, 4, 6, 3], "width": 64, "patch_size": None}, "text_cfg": {}}
    vision = config_from_open_clip({"model_cfg": resnet})["vision_cfg"]
    assert vision == {"image_size": 224, "layers": [3, 4, 6, 3], "width": 64}


OPEN_CLIP_CANNOT = """
    model_cfg       init_logit_bias -10         multimodal_cfg {}             something_new 1     something_new null
    vision_cfg      timm_model_name "vit_base"  attentional_pool true         ls_init_value 0.1   ls_init_value 0
    vision_cfg      pool_type "avg"             block_type "custom"           no_ln_pre true      act_kwargs {"a":1}
    vision_cfg      mlp_ratio "4"               image_size [8,8]              pool_type null
    text_cfg        hf_model_name "roberta"     pool_type "last"              embed_cls true      no_causal_mask true
    text_cfg        proj_bias true              norm_kwargs {"eps":1e-6}      proj_type "none"    heads 0
    preprocess_cfg  interpolation "bilinear"    resize_mode "longest"         mean [0.5,0.5]      std 0.5
"""
HUGGINGFACE_CANNOT = """
    config.json     model_type "siglip"         text_config 3
    text_config     hidden_act "relu"           layer_norm_eps 1e-6           eos_token_id [1,2]  hidden_size 9
    text_config     num_attention_heads 0       eos_token_id null
    vision_config   hidden_act "gelu"           num_hidden_layers [1,1,1,1]   num_channels 1      image_size [8,8]
    preprocessor_config.json                    do_center_crop false          resample 2          image_mean [1,2]
    preprocessor_config.json                    size {"height":8,"width":9}   rescale_factor 1    crop_size 9
"""


def cases(table):
    """(where, key, value) of each line of a table: where, then keys and values in JSON."""
    lines = [line.split() for line in table.strip().splitlines()]
    return [(where, key, value) for where, *rest in lines for key, value in zip(rest[::2], rest[1::2])]


@pytest.mark.parametrize("part, key, value", cases(OPEN_CLIP_CANNOT))
def test_what_this_code_cannot_run_is_named(tmp_path, part, key, value):
    without_checksum(make_clip(), tmp_path / "x", "open_clip")
    change_json(tmp_path / "x" / "open_clip_config.json", part, key, json.loads(value))
    assert key in refusal(load, tmp_path / "x")


def test_a_key_that_is_there_twice_is_refused(tmp_path):
    without_checksum(make_clip(), tmp_path / "x", "open_clip")
    path = tmp_path / "x" / "open_clip_config.json"
    path.write_text(path.read_text().replace('"quick_gelu": true', '"quick_gelu": true, "quick_gelu": false'))
    assert "it says 'quick_gelu' twice" in refusal(load, tmp_path / "x")


@pytest.mark.parametrize("part, key, value", cases(HUGGINGFACE_CANNOT))
def test_what_this_code_cannot_run_of_hugging_face_is_named(tmp_path, part, key, value):
    without_checksum(make_clip(), tmp_path / "x", "huggingface")
    file = part if part.endswith("json") else "config.json"
    change_json(tmp_path / "x" / file, part, key, json.loads(value))
    assert key.removeprefix("image_") in refusal(load, tmp_path / "x")


def test_open_clips_folder_of_others(tmp_path):
    path, description = (
        without_checksum(make_clip(), tmp_path / "x", "open_clip"),
        tmp_path / "x" / "open_clip_config.json",
    )
    again = load(tmp_path / "x")
    assert again.config == make_clip().config
    assert again.about == {"layout": "open_clip", "folder": "x", "file": path.name}
    change_json(description, "text_cfg", "pool_type", "eos")
    change_json(description, "text_cfg", "eos_id", TOKENIZER.end_token)
    assert load(tmp_path / "x").config["text_cfg"]["eos_token_id"] == TOKENIZER.end_token
    for name in ("merges.txt", "vocab.json"):
        os.remove(tmp_path / "x" / name)
    assert "hf_tokenizer_name" in refusal(load, tmp_path / "x")
    os.remove(description)
    assert "open_clip_config.json is missing" in refusal(load, tmp_path / "x")


# ------------------------------------------------------------------------------------------- Hugging Face


@pytest.mark.parametrize(
    "index", ["{}", "[", '{"weight_map": {"a": "../../x.bin"}}', '{"weight_map": {"a": "no.bin"}}']
)
def test_a_list_of_shards_that_names_none_is_refused(tmp_path, index):
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises((ValueError, FileNotFoundError), match="index.json|no.bin"):
        load(tmp_path)


def test_a_parameter_in_two_shards_or_under_two_names_is_refused(tmp_path):
    path = without_checksum(make_clip(), tmp_path / "x", "huggingface")
    arrays = load_file(path)
    save_file(arrays | {"ln_final.weight": arrays["text_model.final_layer_norm.weight"]}, path)
    assert "text_model.final_layer_norm.weight is superfluous" in refusal(load, path)
    save_file(arrays, tmp_path / "x" / "a.safetensors")
    index = {"weight_map": {"a": "a.safetensors", "b": path.name}}
    (tmp_path / "x" / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "is in two of the files" in refusal(load, tmp_path / "x" / "model.safetensors.index.json")


def test_hugging_faces_defaults_hold_where_its_json_says_nothing():
    config = config_from_huggingface({"model_type": "clip", "text_config": {}, "vision_config": None})
    assert config["vision_cfg"] == {"image_size": 224, "layers": 12, "width": 768, "patch_size": 32}
    assert config["text_cfg"] == {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12}
    assert config["embed_dim"] == 512 and config["quick_gelu"]
    older, newer = {"hidden_size": 64, "num_attention_heads": 1}, {"hidden_size": 128, "num_hidden_layers": 3}
    text = config_from_huggingface({"model_type": "clip", "text_config_dict": older, "text_config": newer})["text_cfg"]
    assert (text["width"], text["layers"]) == (64, 12)
