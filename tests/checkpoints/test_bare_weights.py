"""Weights without a configuration: what shapes do not show is said, by the file's name, the caller, or a warning.

And names that training programs wrap, pictures of another size, folders that hold something else.
"""

import json

import numpy as np
import pytest
from checkpoint_files import assert_same_arrays, make_clip, refusal, same
from PIL import Image
from safetensors.numpy import load_file, save_file
from torch_archives import archive, entries, packed, storage, tensor, text

import miniclip
from miniclip import save
from miniclip.checkpoints import known, write_arrays
from miniclip.checkpoints.find import LAION, find_weights
from miniclip.checkpoints.huggingface import config_from_huggingface, huggingface_names
from miniclip.checkpoints.positions import bicubic, resize_positions
from miniclip.checkpoints.validate import RESIZE_MODES
from miniclip.init import initialize, model_config
from miniclip.tree import flatten

CONFIG = model_config("vit-tiny", context_length=8, vocab_size=49408, width=64, heads=1, layers=1) | {
    "embed_dim": 20,
    "vision_cfg": {"image_size": 24, "layers": 2, "width": 64, "patch_size": 8},
}
SMALL = {"ViT-S-8": (20, 2, 64, 8, 32, 24, 1, 64), "ViT-S-16": (20, 2, 64, 16, 32, 24, 1, 64)}
SAID = {"quick_gelu": True, "head_width": 64}


@pytest.fixture(scope="module")
def arrays():
    return {name: array.astype(np.float16) for name, array in flatten(initialize(CONFIG)).items()}


@pytest.fixture
def bare(tmp_path, arrays):
    """A .pt file with nothing but a state dict."""
    path = tmp_path / "x.pt"
    path.write_bytes(packed(arrays))
    return path


def heads(clip):
    return clip.config["vision_cfg"].get("head_width", 64), 64 // clip.config["text_cfg"]["heads"]


def load_refusing(**said):
    return lambda path: miniclip.load(path, **said)


# --------------------------------------------------------------------------------- what shapes do not show


def test_what_is_assumed_is_said(bare):
    for said, sentence in (
        ({}, "QuickGELU, as in OpenAI's models .others have GELU., heads 64 wide"),
        ({"quick_gelu": False}, "assumed: heads 64 wide"),
        ({"head_width": 32}, "assumed: QuickGELU"),
    ):
        with pytest.warns(UserWarning, match=f"x.pt: there is no configuration.*{sentence}") as caught:
            clip = miniclip.load(bare, **said)
        assert (
            len(caught) == 1
            and caught[0].filename == __file__
            and clip.config["quick_gelu"] is ("quick_gelu" not in said)
        )


def test_what_the_caller_says_holds(bare):
    clip = miniclip.load(bare, quick_gelu=False, head_width=32)
    assert not clip.config["quick_gelu"] and heads(clip) == (32, 32)
    assert heads(miniclip.load(bare, quick_gelu=True, head_width=(16, 8))) == (16, 8)
    assert miniclip.load(bare, **SAID).config == CONFIG
    for said, sentence in (
        ({"head_width": 7}, "head_width is 7, no divisor of vision_cfg.width, 64"),
        ({"head_width": (8, 7)}, "head_width is 7, no divisor of text_cfg.width, 64"),
        ({"model": "ViT-B-32"}, "its shapes are not those of ViT-B-32"),
        ({"model": "ViT-Z"}, "there is no model 'ViT-Z'; the names are ViT-B-32, "),
    ):
        assert sentence in refusal(load_refusing(**said), bare)
    for said in ({"head_width": 0}, {"head_width": "8"}, {"head_width": (1, 2, 3)}, {"quick_gelu": "yes"}):
        with pytest.raises(ValueError, match=next(iter(said))):
            miniclip.load(bare, **said)


def test_a_models_name_is_its_configuration(bare, monkeypatch):
    monkeypatch.setattr(known, "ARCHITECTURES", SMALL)
    monkeypatch.setattr("miniclip.checkpoints.describe.ARCHITECTURES", SMALL)
    for name, quick in (("ViT-S-8", False), ("ViT-S-8-quickgelu", True), ("ViT-S/8", True)):
        clip = miniclip.load(bare, model=name)
        assert clip.config["quick_gelu"] == quick and heads(clip) == (32, 64) and name in clip.about["configuration"]
    assert miniclip.load(bare, model="ViT-S-8", quick_gelu=True).config["quick_gelu"]
    assert "not those of ViT-S-16, but of ViT-S-8" in refusal(load_refusing(model="ViT-S-16"), bare)
    with pytest.warns(UserWarning, match="assumed: QuickGELU, as in OpenAI's"):
        miniclip.load(bare)
    monkeypatch.setattr("miniclip.checkpoints.describe.NOT_OPENAI", tuple(SMALL))
    with pytest.warns(UserWarning, match="assumed: GELU, as in LAION's"):
        assert not miniclip.load(bare).config["quick_gelu"]
    assert heads(miniclip.load(bare, quick_gelu=True)) == (32, 64)  # an architecture that is known by its shapes


def test_what_the_caller_says_outranks_a_configuration(tmp_path):
    for layout, place in (("miniclip", "file"), ("open_clip", "a"), ("huggingface", "b")):
        save(make_clip(), tmp_path / place, layout)
        clip = miniclip.load(tmp_path / place, quick_gelu=False, head_width=4)
        assert not clip.config["quick_gelu"]
        assert (clip.config["vision_cfg"]["head_width"], clip.config["text_cfg"]["heads"]) == (4, 2)
        assert "head_width is 5" in refusal(load_refusing(head_width=5), tmp_path / place)


def test_openais_traced_file_needs_nothing(tmp_path, arrays):
    (tmp_path / "x.pt").write_bytes(packed(arrays | {"input_resolution": np.array(24)}, traced=True))
    assert miniclip.load(tmp_path / "x.pt").config == CONFIG


NAMES = {  # of a file: whether it is QuickGELU
    "vit_b_16-laion2b_e16-af8dbd0c.pth": False,
    "CLIP-ViT-B-32-DataComp.XL-s13B-b90K.pt": False,
    "vit_b_32-quickgelu-laion400m_e32-46683a32.pt": True,
    "vit_l_14-laion400m_e32-3d133497.pt": False,
}


@pytest.mark.parametrize("name", NAMES)
def test_laions_weights_are_known_by_their_names(tmp_path, arrays, name):
    (tmp_path / name).write_bytes(packed(arrays))
    clip = miniclip.load(tmp_path / name, head_width=64)
    assert clip.config["quick_gelu"] == NAMES[name] and "GELU by its name" in clip.about["configuration"]


def test_laions_weights_in_the_cache_need_no_configuration(tmp_path, arrays, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    name = "ViT-L-14/laion2b_s32b_b82k"
    folder = tmp_path / f"models--{LAION[name].replace('/', '--')}" / "snapshots" / "abc"
    folder.mkdir(parents=True)
    (folder / "open_clip_pytorch_model.bin").write_bytes(packed(arrays))
    clip = miniclip.load(name, head_width=64)
    assert not clip.config["quick_gelu"] and clip.config["preprocess"]["mean"] == [0.5] * 3
    (tmp_path / "open_clip_model.bin").write_bytes(packed(arrays))
    assert "open_clip_config.json is missing" in refusal(miniclip.load, tmp_path / "open_clip_model.bin")
    with pytest.raises(FileNotFoundError, match="hf download laion/CLIP-ViT-H-14"):
        find_weights("ViT-H-14/laion2b_s32b_b79k")


@pytest.mark.parametrize("name", known.ARCHITECTURES)
def test_the_architectures_are_open_clips(name):
    open_clip = pytest.importorskip("open_clip")
    theirs = open_clip.get_model_config(name)
    vision, words = theirs["vision_cfg"], theirs["text_cfg"]
    patch, head = vision.get("patch_size"), vision.get("head_width", 64)
    pictures = theirs["embed_dim"], vision["layers"], vision["width"], patch, head, vision["image_size"]
    assert (*pictures, words["layers"], words["width"]) == known.ARCHITECTURES[name]
    assert words["heads"] * 64 == words["width"] and not theirs.get("quick_gelu")


# ------------------------------------------------------------------------------------------ wrapped names

PREFIXES = ["module.", "_orig_mod.", "module._orig_mod.", "model.", "clip.", "model.clip_model.", "_forward_module."]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("hub", [False, True])
def test_what_training_puts_before_names_is_looked_through(tmp_path, prefix, hub):
    save(make_clip(), tmp_path / "a", "huggingface" if hub else "open_clip")
    path = next((tmp_path / "a").glob("*.safetensors"))
    plain = load_file(path)
    save_file({prefix + name: array for name, array in plain.items()}, path)
    assert_same_arrays(flatten(miniclip.load(path).params), flatten(make_clip().params))
    middle = {
        name.replace("model.", "model._orig_mod.").replace("visual.", "visual._orig_mod."): a
        for name, a in plain.items()
    }
    save_file(middle, path)
    assert_same_arrays(flatten(miniclip.load(path).params), flatten(make_clip().params))


TWICE = ["module.{}", "_orig_mod.{}", "text.{}", "module._orig_mod.{}"]


@pytest.mark.parametrize("other", TWICE)
@pytest.mark.parametrize("name", ["visual.proj", "visual.conv1.weight", "ln_final.bias", "logit_scale"])
def test_a_parameter_that_is_there_twice_is_refused(tmp_path, arrays, name, other):
    path = tmp_path / "x"
    for more in (
        {other.format(name): np.asarray(arrays[name] + 1)},
        {other.format(n): a for n, a in arrays.items()} | arrays,
    ):
        save_file(arrays | more, path)
        sentence = refusal(load_refusing(**SAID), path)
        assert any(word in sentence for word in ("twice", "several models", "superfluous"))


@pytest.mark.parametrize(
    "wrappers", [["state_dict"], ["model_state_dict"], ["model"], ["module"], ["model", "state_dict"]]
)
def test_a_state_dict_is_found_in_what_training_saves(tmp_path, arrays, wrappers):
    keys = {name: str(key) for key, name in enumerate(arrays)}
    storages = {keys[name]: a.tobytes() for name, a in arrays.items()}
    items = {f"module.{n}": tensor(storage(keys[n], a.size, "HalfStorage"), a.shape) for n, a in arrays.items()}
    one = tensor(storage("0", 1, "HalfStorage"), [1])
    value = b"}" + entries(items)
    for wrapper in reversed(wrappers):
        value = b"}" + entries({"epoch": b"K\3", wrapper: value, "optimizer": b"}" + entries({"state": b"}"})})
    path = tmp_path / "x.pt"
    path.write_bytes(archive(b"\x80\x02" + value + b".", storages))
    assert miniclip.load(path, **SAID).config == CONFIG
    ema = b"}" + entries({wrappers[0]: b"}" + entries(items), "model_ema": b"}" + entries({"a": one})})
    path.write_bytes(archive(b"\x80\x02" + ema + b".", storages))
    with pytest.warns(UserWarning, match="x.pt holds more weights .*not read: model_ema"):
        miniclip.load(path, **SAID)
    both = b"}" + entries({name: b"}" + entries({"a": one}) for name in ("model", "state_dict")})
    path.write_bytes(archive(b"\x80\x02" + both + b".", storages))
    assert "several models, state_dict and model" in refusal(miniclip.load, path)


def test_a_pickle_that_sets_a_name_twice_is_refused(tmp_path):
    one = text("a") + tensor(storage("0", 1), [1])
    for program in (b"}(" + one + one + b"u.", b"}" + one + b"s" + one + b"s.", b"}(" + one + b"K\1Nu(K\1Nu."):
        (tmp_path / "x.pt").write_bytes(archive(b"\x80\x02" + program, {"0": bytes(4)}))
        assert "twice" in refusal(miniclip.load, tmp_path / "x.pt")
    number = tensor(storage("0", 1), [1])
    program = b"}(" + text("1") + number + b"K\1" + number + b"u."
    (tmp_path / "x.pt").write_bytes(archive(b"\x80\x02" + program, {"0": bytes(4)}))
    assert "holds 1 twice" in refusal(miniclip.load, tmp_path / "x.pt")


# ------------------------------------------------------------------------------------------- temperatures


@pytest.mark.parametrize("scale", [100, 14.3, 89, -100])
def test_a_temperature_that_is_no_logarithm_is_refused(tmp_path, arrays, scale):
    path = tmp_path / "x"
    save_file(arrays | {"logit_scale": np.array(scale, np.float32)}, path)
    assert f"logit_scale is {scale:g}, and CLIP's is ln 1/τ" in refusal(load_refusing(**SAID), path)
    clip = make_clip()
    clip.params["logit_scale"] = np.float32(scale)
    with pytest.raises(ValueError, match="save its logarithm"):
        save(clip, tmp_path / "y")


# --------------------------------------------------------------------------------- pictures of another size


@pytest.mark.parametrize("old, new", [(7, 12), (12, 7), (3, 4), (2, 9), (1, 3), (16, 5)])
def test_positions_are_interpolated_as_pillow_interpolates(old, new):
    row = np.random.default_rng(0).standard_normal(old).astype(np.float32)
    grid = np.repeat(row[:, None], 4, 1)  # Pillow's pictures of mode F
    theirs = np.asarray(Image.fromarray(grid).resize((4, new), Image.Resampling.BICUBIC))[:, 0]
    np.testing.assert_allclose(bicubic(old, new) @ row, theirs, atol=2e-6)


@pytest.mark.parametrize("old, new", [(7, 12), (12, 7), (14, 24), (24, 16), (2, 9)])
def test_positions_are_interpolated_as_torch_does(old, new):
    torch = pytest.importorskip("torch")
    table = np.random.default_rng(0).standard_normal((old * old + 1, 8)).astype(np.float32)
    vision = {"patch_size": 4, "image_size": 4 * old, "layers": 1}
    ours, config = resize_positions({"visual.positional_embedding": table}, {"vision_cfg": vision}, 4 * new)
    ours = ours["visual.positional_embedding"]
    grid = torch.from_numpy(table[1:]).double().T.reshape(1, 8, old, old)
    theirs = torch.nn.functional.interpolate(grid, (new, new), mode="bicubic", antialias=True, align_corners=False)
    assert config["vision_cfg"]["image_size"] == 4 * new and ours.dtype == np.float32
    np.testing.assert_allclose(ours[1:], theirs.reshape(8, new * new).T.numpy(), atol=2e-7)
    np.testing.assert_array_equal(ours[0], table[0])


@pytest.mark.parametrize("layout", ["miniclip", "open_clip", "huggingface"])
def test_a_model_for_pictures_of_another_size(tmp_path, layout):
    save(make_clip(), tmp_path / "a", layout)
    clip = miniclip.load(tmp_path / "a", image_size=16)
    assert clip.config["vision_cfg"]["image_size"] == 16 and clip.encode_image([Image.new("RGB", (20, 20))]).shape == (
        1,
        12,
    )
    before, after = (flatten(one.params) for one in (make_clip(), clip))
    changed = [name for name in before if before[name].shape != after[name].shape]
    assert changed == ["visual.positional_embedding"] and after[changed[0]].shape == (17, 16)
    save(clip, tmp_path / "b", layout)
    assert same(miniclip.load(tmp_path / "b"), clip)
    assert same(miniclip.load(tmp_path / "a", image_size=8), miniclip.load(tmp_path / "a"))
    for size in (3, 0, 1 << 13, "16", 16.0, True):
        assert "image_size" in refusal(load_refusing(image_size=size), tmp_path / "a")


def test_a_resnet_for_pictures_of_another_size(tmp_path):
    save(make_clip("resnet"), tmp_path / "a")
    clip = miniclip.load(tmp_path / "a", image_size=96)
    assert clip.encode_image([Image.new("RGB", (20, 20))]).shape == (1, 12)
    assert "a multiple of 32" in refusal(load_refusing(image_size=80), tmp_path / "a")


def test_weights_of_another_size_than_their_configuration_says(tmp_path):
    """As fine-tuning at another size leaves them: the size says which it is to be."""
    save(make_clip(), tmp_path / "a", "open_clip")
    path = tmp_path / "a" / "open_clip_model.safetensors"
    plain = load_file(path)
    table = np.random.default_rng(0).standard_normal((17, 16)).astype(np.float32)
    save_file(plain | {"visual.positional_embedding": table}, path)
    assert "visual.positional_embedding is (17, 16), not (5, 16)" in refusal(miniclip.load, path)
    np.testing.assert_array_equal(miniclip.load(path, image_size=16).params["visual"]["positional_embedding"], table)
    save_file(plain | {"visual.positional_embedding": table[:8]}, path)
    assert "7 positions are no square" in refusal(load_refusing(image_size=16), path)


def test_a_processor_that_squashes(tmp_path):
    pixels = {"size": {"height": 224, "width": 224}, "do_center_crop": False, "resample": 3}
    assert config_from_huggingface({"model_type": "clip"}, pixels)["preprocess"]["resize_mode"] == "squash"
    with pytest.raises(ValueError, match="size|crop"):
        config_from_huggingface({"model_type": "clip"}, pixels | {"size": {"height": 224, "width": 200}})
    clip = make_clip()
    clip.config["preprocess"]["resize_mode"] = "squash"
    if "squash" not in RESIZE_MODES:
        with pytest.raises(ValueError, match="resize_mode is 'squash'"):
            save(clip, tmp_path / "a", "huggingface")
        return
    for layout in ("huggingface", "open_clip"):
        save(clip, tmp_path / layout, layout)
        assert same(miniclip.load(tmp_path / layout), clip)


# ------------------------------------------------------------------------------------------ something else

FOLDERS = {  # a file in it: what is said
    "last.safetensors": "has not finished: go on with train --resume",
    "adapter_config.json": "an adapter .PEFT, LoRA.: merge",
    "modules.json": "sentence-transformers: load the folder in it",
    "checkpoint-500/model.safetensors": "Trainer: load one of its checkpoint",
    "trainer_state.json": "Trainer without",
    "checkpoints/epoch_3.pt": "training run of open_clip",
    "model_index.json": "diffusers",
    "a/pytorch_model.bin": "but a/pytorch_model.bin: name the one that is meant",
    "mine.pt": "but mine.pt: name the one",
}


@pytest.mark.parametrize("file", FOLDERS)
def test_a_folder_is_called_what_it_is(tmp_path, file):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).touch()
    with pytest.raises(FileNotFoundError, match=f"there is no model in {tmp_path}.*{FOLDERS[file]}"):
        miniclip.load(tmp_path)


def test_weights_are_called_what_they_are(tmp_path):
    one = {"base_model.model.vision_model.encoder.layers.0.self_attn.q_proj.lora_A.weight": np.ones((2, 2))}
    for arrays, said in ((one, "an adapter"), ({"text_model.a": np.ones(2)}, "a text encoder alone")):
        save_file(arrays, tmp_path / "x")
        assert f"it is {said}" in refusal(miniclip.load, tmp_path / "x")
    write_arrays(tmp_path / "last", {"count": np.ones(())}, {"config": {}, "data": "x"})
    assert "it is the state of a training run: load the model.safetensors" in refusal(miniclip.load, tmp_path / "last")


def test_weights_of_another_model_are_refused_in_our_words(tmp_path):
    """A ResNet has no names at Hugging Face; a configuration of one, over a ViT's weights, is refused as that."""
    with pytest.raises(ValueError, match="no visual.layer1.0.bn1.weight: its image encoder is a ViT"):
        huggingface_names("visual.layer1.0.bn1.weight")
    for vision in ({"layers": [3, 4, 6, 3], "width": 64, "image_size": 224}, {"layers": [1, 1, 1, 1], "width": 2}):
        for layout in ("open_clip", "huggingface"):
            save(make_clip(), tmp_path / layout, layout)
            path = next((tmp_path / layout).glob("*.safetensors"))
            save_file(load_file(path), path)
            model = {
                "embed_dim": 12,
                "vision_cfg": vision | {"image_size": 32},
                "text_cfg": make_clip().config["text_cfg"],
            }
            (tmp_path / layout / "open_clip_config.json").write_text(json.dumps({"model_cfg": model}))
            (tmp_path / layout / "config.json").unlink(missing_ok=True)
            assert any(
                word in refusal(miniclip.load, path) for word in ("another architecture", "config.json is missing")
            )
