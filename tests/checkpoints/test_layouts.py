"""Weights that PyTorch, transformers and OpenAI's own code wrote, and what they make of ours."""

import importlib.util
import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from test_checkpoint import TOKENIZER, make_clip, refusal

from miniclip.checkpoints.checkpoint import load, save
from miniclip.checkpoints.find import OPENAI
from miniclip.checkpoints.huggingface import from_huggingface
from miniclip.checkpoints.openai import from_open_clip, mlp_ratio
from miniclip.model import encode_image, encode_text, initialize, model_config
from miniclip.tokenizer import Tokenizer
from miniclip.tree import flatten

LIMIT = 1e-5
TEXTS = ["a red square", "large", ""]


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)


def same(a, b):
    """Whether two models have the same bits and the same configuration."""
    before, after = flatten(a.params), flatten(b.params)
    return (
        list(before) == list(after)
        and a.config == b.config
        and a.about == b.about
        and a.tokenizer.merges == b.tokenizer.merges
        and all(before[n].tobytes() == after[n].tobytes() and before[n].dtype == after[n].dtype for n in before)
    )


def tokens_and_pictures(clip, seed=0):
    rng = np.random.default_rng(seed)
    size = clip.config["vision_cfg"]["image_size"]
    return (
        clip.tokenizer(TEXTS, clip.config["text_cfg"]["context_length"]),
        rng.standard_normal((3, 3, size, size)).astype(np.float32),
    )


def assert_same_embeddings(clip, tokens, pictures, texts, images, limit=LIMIT):
    """Unit embeddings of ours against (N, E) features of others'."""
    for ours, theirs in (
        (encode_text(clip.params, tokens, clip.config)[0], texts),
        (encode_image(clip.params, pictures, clip.config)[0], images),
    ):
        theirs = np.asarray(theirs, np.float64)
        scale = np.linalg.norm(theirs, axis=1, keepdims=True)
        assert scale.min() > 1e-3 and np.abs(ours / scale - theirs / scale).max() < limit


# ------------------------------------------------------------------------------------- our own round trips


@pytest.mark.parametrize("layout, kind", [("open_clip", "vit"), ("open_clip", "resnet"), ("huggingface", "vit")])
@pytest.mark.parametrize("half", [False, True])
def test_what_is_saved_comes_back_to_the_bit(tmp_path, layout, kind, half):
    clip = make_clip(kind)
    clip.config["vision_cfg"] |= {"head_width": 8} if kind == "vit" else {"head_width": 4}
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


def test_every_flipped_bit_of_every_file_is_refused(tmp_path):
    rng = np.random.default_rng(0)
    for layout in ("open_clip", "huggingface"):
        folder = tmp_path / layout
        save(make_clip(), folder, layout)
        for file in sorted(folder.iterdir()):
            whole = file.read_bytes()
            places = rng.choice(len(whole), min(len(whole), 60), replace=False)
            for place in [*places, *range(min(40, len(whole)))]:
                changed = bytearray(whole)
                changed[place] ^= 1 << int(rng.integers(8))
                file.write_bytes(changed)
                with pytest.raises(ValueError) as caught:
                    load(folder)
                assert str(folder) in str(caught.value) and "\n" not in str(caught.value)
            file.unlink()
            with pytest.raises((ValueError, FileNotFoundError)):
                load(folder)
            file.write_bytes(whole)
        assert load(folder).config == make_clip().config


def test_files_of_two_saves_do_not_go_together(tmp_path):
    for seed, name in enumerate("ab"):
        save(make_clip(seed=seed), tmp_path / name, "huggingface")
    other = replace(make_clip(), config=make_clip().config | {"quick_gelu": False})
    save(other, tmp_path / "c", "huggingface")
    shutil.copy(tmp_path / "c" / "config.json", tmp_path / "a" / "config.json")
    assert "config.json is not the one that was written with model.safetensors" in refusal_in(tmp_path / "a")
    os.remove(tmp_path / "b" / "vocab.json")
    assert "vocab.json is missing" in refusal_in(tmp_path / "b")


def refusal_in(folder):
    return refusal(load, folder)


def test_a_failed_save_leaves_the_folder_as_it_was(tmp_path, monkeypatch):
    folder = tmp_path / "model"
    save(make_clip(), folder, "open_clip")
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    count = iter(range(100))
    monkeypatch.setattr(os, "fsync", lambda _: 1 / 0 if next(count) == 3 else None)
    with pytest.raises(ZeroDivisionError):
        save(make_clip(seed=1), folder, "open_clip")
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


@pytest.mark.parametrize("after", [1, 2, 3, 4])
def test_a_save_killed_between_two_files_never_loads_wrongly(tmp_path, monkeypatch, after):
    folder, old, new = tmp_path / "model", make_clip(), make_clip(seed=1)
    new.config = new.config | {"quick_gelu": False}
    save(old, folder, "huggingface")
    real, count = os.replace, iter(range(100))
    monkeypatch.setattr(os, "replace", lambda a, b: real(a, b) if next(count) < after else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save(new, folder, "huggingface")
    try:
        assert same(load(folder), old)
    except ValueError as error:
        assert "is not the one that was written" in str(error)
    monkeypatch.undo()
    save(new, folder, "huggingface")
    assert same(load(folder), new)


def test_what_cannot_be_saved_is_said(tmp_path):
    clip = make_clip()
    with pytest.raises(ValueError, match="there is no layout 'onnx'"):
        save(clip, tmp_path / "x", "onnx")
    with pytest.raises(ValueError, match="CLIPModel has no ResNet.*open_clip"):
        save(make_clip("resnet"), tmp_path / "x", "huggingface")
    with pytest.raises(FileNotFoundError, match="no folder .*nowhere"):
        save(clip, tmp_path / "nowhere" / "x", "open_clip")
    save(clip, tmp_path / "file")
    with pytest.raises(ValueError, match="is a file"):
        save(clip, tmp_path / "file", "open_clip")
    save(clip, tmp_path / "x", "open_clip")
    with pytest.raises(ValueError, match="already holds open_clip_model.safetensors"):
        save(clip, tmp_path / "x", "huggingface")
    with pytest.raises(ValueError, match="do not belong together"):
        save(replace(clip, tokenizer=Tokenizer([])), tmp_path / "y", "open_clip")
    assert sorted(os.listdir(tmp_path)) == ["file", "x"]


# ------------------------------------------------------------------------------------------------- OpenAI


def original():
    """OpenAI's model.py, from the package that ships it, without importing the package."""
    spec = importlib.util.find_spec("clip")
    path = spec and spec.submodule_search_locations and os.path.join(spec.submodule_search_locations[0], "model.py")
    if not path or not os.path.exists(path):
        pytest.skip("OpenAI's own code is not installed (clip-anytorch)")
    spec = importlib.util.spec_from_file_location("original_clip_model", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SMALL = {"vit": (64, 32, 2, 64, 8), "resnet": (64, 64, (1, 2, 1, 1), 8, None)}


def openai_model(kind, half=True, vocabulary=49408):
    """A model of OpenAI's code with random numbers everywhere, its weights halved as OpenAI's are; and torch."""
    torch = pytest.importorskip("torch")
    module = original()
    torch.manual_seed(0)
    model = module.CLIP(*SMALL[kind], 12, vocabulary, 64, 1, 2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
        for name, buffer in model.named_buffers():
            if "running" in name:
                buffer.add_(torch.rand_like(buffer))
    if half:
        module.convert_weights(model)
        model = module.CLIP.float(model)  # the halved numbers, computed with in float32
    return torch, module, model.eval()


def write_openai(torch, module, model, path, how):
    if how == "state dict":
        module.convert_weights(model)
        torch.save(model.state_dict(), path)
    elif how == "training":
        state = {f"module.{name}": value for name, value in model.state_dict().items()}
        optimizer = torch.optim.AdamW(model.parameters())
        torch.save({"epoch": 3, "name": "run", "state_dict": state, "optimizer": optimizer.state_dict()}, path)
    elif how == "custom text":
        torch.save(
            {
                name if name.startswith(("visual.", "logit")) else f"text.{name}": value.bfloat16()
                for name, value in model.state_dict().items()
                if value.ndim or name == "logit_scale"
            },
            path,
        )
    else:  # as OpenAI's own files: traced, halved, and three numbers more
        for name, value in (
            ("input_resolution", model.visual.input_resolution),
            ("context_length", model.context_length),
            ("vocab_size", model.vocab_size),
        ):
            if hasattr(model, name):
                delattr(model, name)
            model.register_buffer(name, torch.tensor(value))
        size = int(model.input_resolution)
        example = torch.zeros(1, 3, size, size), torch.zeros(1, int(model.context_length), dtype=torch.long)
        traced = torch.jit.trace(model, example, check_trace=False)
        module.convert_weights(model)
        traced.save(str(path))
    return path


@pytest.mark.filterwarnings("ignore")  # PyTorch's own, of tracing
@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("how", ["state dict", "training", "custom text", "traced"])
def test_openais_own_files(tmp_path, kind, how):
    torch, module, model = openai_model(kind)
    if how == "custom text":
        model = model.bfloat16().float()
    clip_tokens = Tokenizer.clip()(TEXTS, 12)
    pictures = np.random.default_rng(0).standard_normal((3, 3, SMALL[kind][1], SMALL[kind][1])).astype(np.float32)
    with torch.no_grad():
        texts = model.encode_text(torch.from_numpy(clip_tokens))
        images = model.encode_image(torch.from_numpy(pictures))
    clip = load(write_openai(torch, module, model, tmp_path / "model.pt", how))
    assert clip.config["quick_gelu"] and clip.about["configuration"] == "from the shapes"
    assert clip.about["file"] == "model.pt" and clip.tokenizer.vocab_size == 49408
    assert all(a.dtype == np.float32 for a in flatten(clip.params).values())
    assert list(flatten(clip.params)) == list(flatten(initialize(clip.config)))
    assert_same_embeddings(clip, clip_tokens, pictures, texts, images)


@pytest.mark.parametrize("kind", SMALL)
def test_a_lone_safetensors_file_of_openais_names(tmp_path, kind):
    config = model_config("vit-tiny", context_length=8, vocab_size=49408, width=64, heads=1, layers=1)
    vision = (
        {"image_size": 24, "layers": 2, "width": 64, "patch_size": 8, "mlp_ratio": 97 / 64}
        if kind == "vit"
        else {"image_size": 64, "layers": [2, 1, 3, 1], "width": 8}
    )
    config |= {"embed_dim": 20, "vision_cfg": vision}
    arrays = {name: array.astype(np.float16) for name, array in flatten(initialize(config)).items()}
    save_file(arrays, tmp_path / "x.safetensors", {"format": "pt"})
    clip = load(tmp_path / "x.safetensors")
    assert clip.config == config and clip.params["ln_final"]["weight"].dtype == np.float32
    del arrays["ln_final.bias"]
    save_file(arrays | {"logit_bias": np.zeros(1, np.float32)}, tmp_path / "x.safetensors")
    sentence = refusal(load, tmp_path / "x.safetensors")
    assert "ln_final.bias is missing" in sentence and "logit_bias is superfluous" in sentence
    for name in (
        "text_projection",
        "positional_embedding",
        "visual.conv1.weight" if kind == "vit" else "visual.layer1.0.conv1.weight",
    ):
        save_file({n: a for n, a in arrays.items() if n != name}, tmp_path / "x.safetensors")
        assert f"{name} is missing" in refusal(load, tmp_path / "x.safetensors")


def test_a_ratio_gives_the_hidden_width_again():
    assert all(
        int(width * mlp_ratio(hidden, width)) == hidden
        for width in (1, 48, 49, 64, 97, 768, 1000)
        for hidden in range(1, 3000)
    )


# ---------------------------------------------------------------------------------------------- open_clip


def open_clip_folder(folder):
    clip = make_clip()
    save(clip, folder, "open_clip")
    arrays = load_file(folder / "open_clip_model.safetensors")
    save_file(arrays, folder / "open_clip_model.safetensors")  # no seal: as others write it
    return clip, json.loads((folder / "open_clip_config.json").read_text())


def test_open_clips_defaults_hold_where_its_json_says_nothing():
    config = from_open_clip(
        {
            "model_cfg": {
                "embed_dim": 512,
                "vision_cfg": {"patch_size": 32, "ls_init_value": None},
                "text_cfg": {"hf_tokenizer_name": ""},
            }
        }
    )
    assert config == {
        "quick_gelu": False,
        "embed_dim": 512,
        "preprocess": model_config("vit-tiny")["preprocess"],
        "vision_cfg": {"image_size": 224, "layers": 12, "width": 768, "patch_size": 32},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12},
    }
    resnet = {"embed_dim": 8, "vision_cfg": {"layers": [3, 4, 6, 3], "width": 64, "patch_size": None}, "text_cfg": {}}
    vision = from_open_clip({"model_cfg": resnet})["vision_cfg"]
    assert vision == {"image_size": 224, "layers": [3, 4, 6, 3], "width": 64}


@pytest.mark.parametrize(
    "part, key, value",
    [
        ("model_cfg", "init_logit_bias", -10),
        ("model_cfg", "multimodal_cfg", {}),
        ("model_cfg", "something_new", 1),
        ("vision_cfg", "timm_model_name", "vit_base"),
        ("vision_cfg", "attentional_pool", True),
        ("vision_cfg", "ls_init_value", 0.1),
        ("vision_cfg", "pool_type", "avg"),
        ("vision_cfg", "block_type", "custom"),
        ("vision_cfg", "no_ln_pre", True),
        ("text_cfg", "hf_model_name", "roberta-base"),
        ("text_cfg", "pool_type", "last"),
        ("text_cfg", "embed_cls", True),
        ("text_cfg", "no_causal_mask", True),
        ("text_cfg", "proj_bias", True),
        ("text_cfg", "proj_type", "none"),
        ("text_cfg", "norm_kwargs", {"eps": 1e-6}),
        ("vision_cfg", "act_kwargs", {"a": 1}),
        ("preprocess_cfg", "interpolation", "bilinear"),
        ("preprocess_cfg", "resize_mode", "squash"),
        ("preprocess_cfg", "mean", [0.5, 0.5]),
        ("preprocess_cfg", "std", 0.5),
        ("vision_cfg", "mlp_ratio", "4"),
        ("text_cfg", "heads", 0),
        ("vision_cfg", "image_size", [8, 8]),
    ],
)
def test_what_this_code_cannot_run_is_named(tmp_path, part, key, value):
    _, description = open_clip_folder(tmp_path / "x")
    place = description if part in description else description["model_cfg"]
    place[part][key] = value
    (tmp_path / "x" / "open_clip_config.json").write_text(json.dumps(description))
    assert key in refusal_in(tmp_path / "x")


def test_open_clips_folder_of_others(tmp_path):
    clip, description = open_clip_folder(tmp_path / "x")
    again = load(tmp_path / "x")
    assert again.config == clip.config and again.about == {
        "layout": "open_clip",
        "folder": "x",
        "file": "open_clip_model.safetensors",
    }
    description["model_cfg"]["text_cfg"] |= {"pool_type": "eos", "eos_id": TOKENIZER.end_token}
    (tmp_path / "x" / "open_clip_config.json").write_text(json.dumps(description))
    assert load(tmp_path / "x").config["text_cfg"]["eos_token_id"] == TOKENIZER.end_token
    for name in ("merges.txt", "vocab.json"):
        os.remove(tmp_path / "x" / name)
    assert "hf_tokenizer_name" in refusal_in(tmp_path / "x")
    os.remove(tmp_path / "x" / "open_clip_config.json")
    assert "open_clip_config.json is missing" in refusal_in(tmp_path / "x")


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_open_clip_opens_what_is_saved(tmp_path, kind):
    torch, open_clip = pytest.importorskip("torch"), pytest.importorskip("open_clip")
    clip = make_clip(kind)
    clip.config["vision_cfg"]["head_width"] = 8
    save(clip, tmp_path / "model", "open_clip")
    model = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'model'}")[0].eval()
    tokens, pictures = tokens_and_pictures(clip)
    with torch.no_grad():
        texts, images = model.encode_text(torch.from_numpy(tokens)), model.encode_image(torch.from_numpy(pictures))
    assert_same_embeddings(clip, tokens, pictures, texts, images)


# ------------------------------------------------------------------------------------------- Hugging Face


def hub_model(end, act="quick_gelu"):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.CLIPConfig(
        text_config={
            "vocab_size": 49408,
            "hidden_size": 32,
            "intermediate_size": 97,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 12,
            "hidden_act": act,
            "eos_token_id": end,
        },
        vision_config={
            "hidden_size": 48,
            "intermediate_size": 192,
            "num_hidden_layers": 1,
            "num_attention_heads": 4,
            "image_size": 32,
            "patch_size": 8,
            "hidden_act": act,
        },
        projection_dim=24,
    )
    model = transformers.CLIPModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return torch, model


def hub_features(torch, model, tokens, pictures):
    def features(out):
        return getattr(out, "pooler_output", out)

    with torch.no_grad():
        return (
            features(model.get_text_features(input_ids=torch.from_numpy(tokens))),
            features(model.get_image_features(pixel_values=torch.from_numpy(pictures))),
        )


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("end, act", [(49407, "quick_gelu"), (2, "gelu")])
def test_hugging_faces_model(tmp_path, dtype, end, act):
    torch, model = hub_model(end, act)
    model.to(getattr(torch, dtype)).save_pretrained(tmp_path / "hf")
    model = model.float()
    clip = load(tmp_path / "hf")
    tokens, pictures = tokens_and_pictures(clip)
    if end == 2:  # then the largest id counts, wherever there is no end
        tokens[0, :] = [5, 6, 2, 900, 7, 8, 0, 0, 0, 0, 0, 0]
    assert all(a.dtype == np.float32 for a in flatten(clip.params).values())
    assert clip.config["quick_gelu"] == (act == "quick_gelu") and clip.about["layout"] == "huggingface"
    assert_same_embeddings(clip, tokens, pictures, *hub_features(torch, model, tokens, pictures))


def test_hugging_faces_shards_and_pickles(tmp_path):
    torch, model = hub_model(49407)
    model.save_pretrained(tmp_path / "whole")
    whole = load(tmp_path / "whole")
    model.save_pretrained(tmp_path / "shards", max_shard_size="1MB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    state = model.state_dict() | {"text_model.embeddings.position_ids": torch.arange(12)[None]}
    (tmp_path / "bin").mkdir()
    torch.save(state, tmp_path / "bin" / "pytorch_model.bin")
    shutil.copy(tmp_path / "whole" / "config.json", tmp_path / "bin")
    for name in ("shards", "bin"):
        assert same(replace(load(tmp_path / name), about=whole.about), whole)
    index = tmp_path / "shards" / "model.safetensors.index.json"
    for bad in (
        "{}",
        "[",
        '{"weight_map": {"a": "../../secret.safetensors"}}',
        '{"weight_map": {"a": "gone.safetensors"}}',
    ):
        index.write_text(bad)
        with pytest.raises((ValueError, FileNotFoundError), match="index.json|gone"):
            load(tmp_path / "shards")


@pytest.mark.parametrize("act", [True, False])
def test_transformers_opens_what_is_saved(tmp_path, act):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    clip = make_clip()
    clip.config |= {"quick_gelu": act}
    clip.config["vision_cfg"] |= {"mlp_ratio": 3}
    clip.params = initialize(clip.config, 1)
    save(clip, tmp_path / "x", "huggingface")
    assert same(load(tmp_path / "x"), clip)
    model, told = transformers.CLIPModel.from_pretrained(tmp_path / "x", output_loading_info=True)
    assert not any(told[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    tokens, pictures = tokens_and_pictures(clip)
    assert_same_embeddings(clip, tokens, pictures, *hub_features(torch, model.eval(), tokens, pictures))
    tokenizer = transformers.CLIPTokenizer.from_pretrained(tmp_path / "x")
    for text in (*TEXTS, "It's 3 red SQUARES!", "naïve café 🙂"):
        assert tokenizer(text)["input_ids"] == [
            clip.tokenizer.start_token,
            *clip.tokenizer.encode(text),
            clip.tokenizer.end_token,
        ]


def test_hugging_faces_defaults_hold_where_its_json_says_nothing():
    config = from_huggingface({"model_type": "clip", "text_config": {}, "vision_config": None})
    assert config["vision_cfg"] == {"image_size": 224, "layers": 12, "width": 768, "patch_size": 32}
    assert config["text_cfg"] == {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12}
    assert config["embed_dim"] == 512 and config["quick_gelu"]
    older = from_huggingface(
        {
            "model_type": "clip",
            "text_config_dict": {"hidden_size": 64, "num_attention_heads": 1},
            "text_config": {"hidden_size": 128, "num_hidden_layers": 3},
        }
    )
    assert (older["text_cfg"]["width"], older["text_cfg"]["layers"]) == (64, 12)


@pytest.mark.parametrize(
    "file, key, value",
    [
        ("config.json", "model_type", "siglip"),
        ("config.json", "text_config", 3),
        ("text_config", "hidden_act", "relu"),
        ("vision_config", "hidden_act", "gelu"),
        ("text_config", "layer_norm_eps", 1e-6),
        ("vision_config", "num_channels", 1),
        ("text_config", "eos_token_id", [1, 2]),
        ("text_config", "hidden_size", 9),
        ("text_config", "num_attention_heads", 0),
        ("vision_config", "image_size", [8, 8]),
        ("preprocessor_config.json", "resample", 2),
        ("preprocessor_config.json", "do_center_crop", False),
        ("preprocessor_config.json", "size", {"height": 8, "width": 8}),
        ("preprocessor_config.json", "image_mean", [1, 2]),
    ],
)
def test_what_this_code_cannot_run_of_hugging_face_is_named(tmp_path, file, key, value):
    save(make_clip(), tmp_path / "x", "huggingface")
    weights = tmp_path / "x" / "model.safetensors"
    save_file(load_file(weights), weights)
    place = tmp_path / "x" / (file if file.endswith("json") else "config.json")
    description = json.loads(place.read_text())
    (description if file.endswith("json") else description[file])[key] = value
    place.write_text(json.dumps(description))
    assert key.removeprefix("image_") in refusal_in(tmp_path / "x").replace("hidden_size", "hidden_size width")


# ---------------------------------------------------------------------------------------------- by name


@pytest.fixture
def nobody_home(tmp_path, monkeypatch):
    """A home and caches in which there is nothing."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("pathlib.Path.home", lambda: tmp_path / "home")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "variable, below",
    [
        ("HF_HUB_CACHE", ""),
        ("HF_HOME", "hub"),
        ("XDG_CACHE_HOME", "huggingface/hub"),
        (None, "home/.cache/huggingface/hub"),
    ],
)
def test_a_name_of_the_hub_is_found_in_its_cache(nobody_home, monkeypatch, variable, below):
    cache = nobody_home / below if variable is None else nobody_home / "cache" / below
    if variable:
        monkeypatch.setenv(variable, str(nobody_home / "cache"))
    snapshots = cache / "models--some--model" / "snapshots"
    for seed, revision in enumerate(("aaa", "bbb", "ccc")):
        (snapshots / revision).mkdir(parents=True)
        if revision != "ccc":
            save(make_clip(seed=seed), snapshots / revision, "huggingface")
    refs = snapshots.parent / "refs"
    refs.mkdir()
    for main, seed in (("bbb", 1), ("aaa\n", 0), ("ccc", 0), ("../../..", 0), ("\xff", 0)):
        (refs / "main").write_bytes(main.encode("latin-1"))
        assert same(load("some/model"), make_clip(seed=seed))
    weights = snapshots / "bbb" / "model.safetensors"
    save_file(load_file(weights), weights)
    (refs / "main").write_text("bbb")
    assert load("some/model").about == {"layout": "huggingface", "folder": "some/model", "file": "model.safetensors"}
    with pytest.raises(FileNotFoundError, match=r"hf download other/model"):
        load("other/model")


def test_openais_names_are_found_where_its_program_keeps_them(nobody_home):
    torch, module, model = openai_model("vit")
    with pytest.raises(FileNotFoundError, match="ViT-B-32.pt.*hf download openai/clip-vit-base-patch32"):
        load("ViT-B/32")
    folder = nobody_home / "home" / ".cache" / "clip"
    folder.mkdir(parents=True)
    for name, file in (("ViT-B/32", "ViT-B-32.pt"), ("ViT-L/14@336px", "ViT-L-14-336px.pt"), ("RN50", "RN50.pt")):
        torch.save(model.state_dict(), folder / file)
        assert load(name).about["file"] == file
    with pytest.raises(FileNotFoundError, match="hf download timm/resnet101_clip.openai"):
        load("RN101")
    assert len(OPENAI) == 9
