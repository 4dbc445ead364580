"""Files that PyTorch, OpenAI's code and open_clip wrote, what they make of ours, and the command that compares."""

import hashlib

import numpy as np
import parity
import pytest
from references import error, or_skip, random_openai, threads

import miniclip
from miniclip import encode_image, encode_text
from miniclip.checkpoints.torch_file import read_torch
from miniclip.init import initialize, model_config
from miniclip.model import CLIP
from miniclip.tokenizer import Tokenizer
from miniclip.tree import flatten

torch = pytest.importorskip("torch")
TEXTS = ["a red", "large", ""]
SMALL = {"vit": (64, 32, 2, 64, 8, 12, 49408, 64, 1, 2), "resnet": (64, 64, (1, 2, 1, 1), 8, None, 12, 49408, 64, 1, 2)}


@pytest.fixture(scope="module")
def openai():
    return or_skip(parity.openai_code)[1]


def assert_same_features(clip, model, tokens):
    """Features of texts and pictures here, and of a torch model."""
    size = clip.config["vision_cfg"]["image_size"]
    images = np.random.default_rng(0).standard_normal((3, 3, size, size)).astype(np.float32)
    with torch.no_grad():
        texts, pictures = model.encode_text(torch.from_numpy(tokens)), model.encode_image(torch.from_numpy(images))
    assert error(encode_text(clip.params, tokens, clip.config)[0], texts) <= 1e-5
    assert error(encode_image(clip.params, images, clip.config)[0], pictures) <= 1e-5


# ------------------------------------------------------------------------------------------ PyTorch's files


DTYPES = "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool"


@pytest.mark.parametrize("dtype", DTYPES.split())
@pytest.mark.filterwarnings("ignore")
def test_what_pytorch_itself_writes(tmp_path, dtype):
    whole = (torch.randn(4, 6, generator=torch.Generator().manual_seed(0)) * 3).to(getattr(torch, dtype))
    tensors = {"whole": whole, "transposed": whole.T, "part": whole[1:, 2:5], "steps": whole[::2, ::3]}
    tensors |= {"row": whole[2], "scalar": whole[1, 1], "empty": whole[:0]}
    tensors["parameter"] = torch.nn.Parameter(whole.clone(), False)
    others = {"epoch": 3, "rate": 0.1, "betas": (0.9, [1]), "none": None, "big": 1 << 40}
    torch.save(others | {"state_dict": tensors}, tmp_path / "x.pt")
    again = read_torch(tmp_path / "x.pt")
    assert again.keys() == tensors.keys()
    for name, value in tensors.items():
        value = (value.float() if dtype == "bfloat16" else value).detach().numpy()
        assert np.array_equal(again[name], value.astype("u1") if dtype == "bool" else value), name
        assert again[name].flags.c_contiguous and again[name].flags.writeable
    before = again["transposed"].copy()
    again["whole"][...] = 0  # they shared one storage, and do not here
    assert np.array_equal(again["transposed"], before) and before.any()


def test_files_of_before_1_6_say_how_to_convert_them(tmp_path):
    torch.save({"a": torch.zeros(2)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match="before 1.6.*torch.save its state_dict again"):
        miniclip.load(tmp_path / "old.pt")


# ------------------------------------------------------------------------------------------ OpenAI, open_clip


def write_openai(model, path, how):
    """A model's weights as OpenAI published them, or as training and open_clip leave them."""
    state = model.state_dict()
    if how == "state dict":
        torch.save({name: value.half() if value.ndim > 1 else value for name, value in state.items()}, path)
    elif how == "training":
        state = {f"module.{name}": value for name, value in state.items()}
        optimizer = torch.optim.AdamW(model.parameters())
        torch.save({"epoch": 3, "name": "run", "state_dict": state, "optimizer": optimizer.state_dict()}, path)
    elif how == "custom text":
        state = {name: value.bfloat16() for name, value in state.items() if value.ndim or name == "logit_scale"}
        torch.save({n if n.startswith(("visual.", "logit")) else f"text.{n}": v for n, v in state.items()}, path)
    else:  # traced, halved, and three numbers more
        size, context = model.visual.input_resolution, model.context_length
        for name, value in (("input_resolution", size), ("context_length", context), ("vocab_size", 49408)):
            vars(model).pop(name, None)
            model.register_buffer(name, torch.tensor(value))
        example = torch.zeros(1, 3, size, size), torch.zeros(1, context, dtype=torch.long)
        traced = torch.jit.trace(model, example, check_trace=False)
        for parameter in model.parameters():
            parameter.data = parameter.data.half() if parameter.ndim > 1 else parameter.data
        traced.save(str(path))


@pytest.mark.filterwarnings("ignore")  # PyTorch's own, of tracing
@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("how", ["state dict", "training", "custom text", "traced"])
def test_openais_own_files(openai, tmp_path, kind, how):
    model = random_openai(openai, SMALL[kind]).eval()
    for tensor in model.parameters():  # nothing that the shorter formats round
        tensor.data = tensor.data.bfloat16().float() if how == "custom text" else tensor.data.half().float()
    for name, tensor in model.named_buffers():
        if "running" in name:
            tensor.data = tensor.data.bfloat16().float()
    tokens = Tokenizer.clip()(TEXTS, 12)
    write_openai(model, tmp_path / "model.pt", how)
    clip = miniclip.load(tmp_path / "model.pt")
    assert clip.config["quick_gelu"] and clip.tokenizer.vocab_size == 49408
    assert clip.about == {"layout": "openai", "configuration": "from the shapes", "file": "model.pt"}
    assert list(flatten(clip.params)) == list(flatten(initialize(clip.config)))
    theirs = model.float().state_dict()
    for name, array in flatten(clip.params).items():
        assert array.dtype == np.float32 and np.array_equal(array, theirs[name].numpy()), name
    assert_same_features(clip, model, tokens)


@pytest.mark.parametrize("kind", SMALL)
def test_open_clip_opens_what_is_saved(tmp_path, kind):
    open_clip = pytest.importorskip("open_clip")
    tokenizer = Tokenizer.train(["a small red circle", "a large red square"], 540)
    config = model_config("vit-tiny", context_length=8, vocab_size=tokenizer.vocab_size, width=8, heads=2, layers=1)
    config["vision_cfg"] = {"image_size": 8, "layers": 2, "width": 16, "patch_size": 4}
    if kind == "resnet":
        config["vision_cfg"] = {"image_size": 32, "layers": [1, 2, 1, 1], "width": 2}
    config["vision_cfg"]["head_width"] = 8
    clip = CLIP(initialize(config), config, tokenizer)
    miniclip.save(clip, tmp_path / "model", "open_clip")
    model = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'model'}")[0].eval()
    assert_same_features(clip, model, tokenizer(TEXTS, 8))


# ------------------------------------------------------------------------------------------ the command


@pytest.fixture
def file(openai, tmp_path):
    """A small model with CLIP's vocabulary, saved as OpenAI's code would be."""
    path = tmp_path / "small.pt"
    torch.save(random_openai(openai, (32, 32, 2, 64, 8, 77, 49408, 64, 1, 2)).state_dict(), path)
    return path


@pytest.mark.parametrize("gradients", [[], ["--gradients"], ["--gradients", "float32"]])
def test_the_command_finds_the_same(file, gradients, capsys):
    assert parity.main([str(file), *gradients]) == 0
    out = capsys.readouterr().out
    assert "none of the files that OpenAI published" in out and "OpenAI's model.py" in out
    assert ("logit_scale" in out or "median of all" in out) == bool(gradients)


@pytest.mark.filterwarnings("ignore:.*QuickGELU")  # bare weights do not say which they are
def test_the_command_finds_what_is_not_the_same(file, monkeypatch, capsys):
    """A bias is in the embeddings; the temperature in none, but in the probabilities and, less so, in gradients."""
    clip = miniclip.load(file)
    monkeypatch.setattr(miniclip, "load", lambda path: clip)
    scale = clip.params["logit_scale"]
    for shift, arguments, status in ((0.1, [], 1), (1e-5, [], 0), (1e-5, ["--gradients"], 1)):
        clip.params["logit_scale"] = scale + np.float32(shift)
        assert parity.main([str(file), *arguments]) == status
        assert ("NOT the same" in capsys.readouterr().out) == bool(status)
    clip.params["logit_scale"] = scale
    clip.params["visual"]["ln_post"]["bias"][3] += 0.01
    assert parity.main([str(file)]) == 1


def test_the_command_knows_a_published_file_by_its_digest(file, monkeypatch, capsys):
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    monkeypatch.setattr(parity, "PUBLISHED", {digest: "ViT-B/32"})
    assert parity.main([str(file)]) == 0
    assert "small.pt: ViT-B/32 as OpenAI published it" in capsys.readouterr().out


IMPOSSIBLE = [
    ([], "name a model"),
    (["nowhere.pt"], "there is no nowhere.pt"),
    (["x", "--random", "RN50"], "name a model"),
    (["no-one/no-such-model"], "hf download"),
    (["{bad}"], "miniclip cannot load it"),
    (["{folder}"], "there is no"),
]


@pytest.mark.parametrize("arguments, sentence", IMPOSSIBLE)
def test_the_command_says_what_is_not_possible(tmp_path, arguments, sentence, capsys):
    (tmp_path / "bad.pt").write_bytes(b"PK not a file of PyTorch's")
    places = {"bad": tmp_path / "bad.pt", "folder": tmp_path}
    assert parity.main([argument.format(**places) for argument in arguments]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("parity: ") and sentence in printed.err and printed.err.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ViT-B/32", "RN50"])
def test_the_command_at_full_size(openai, name):
    with threads(2):
        assert parity.main(["--random", name]) == 0
