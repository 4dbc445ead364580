"""Against OpenAI's own model code: features, logits, loss, and the gradient of every parameter.

Random weights, norms and running averages, in float64 and float32. At full size (slow) the geometries
are those that OpenAI published. Their LayerNorm computes in float32 whatever it is given; for a
comparison in float64 it is PyTorch's own, which in float32 is the same thing.

One thing float32 cannot settle is on which side of a ReLU's kink a number lies that is 0 up to rounding.
A ResNet has millions of them, and one that falls on the other side moves every gradient below it by far
more than rounding does, in PyTorch against its own float64 as in miniclip. So a ResNet is compared twice
in float32: as it is, with room for kinks, and with QuickGELU in place of ReLU in both libraries, where
each gradient has to meet the limit that it meets everywhere else.
"""

import hashlib
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from parity import (
    DTYPES,
    EMBEDDINGS,
    LIMIT,
    assert_within,
    compare_models,
    error,
    errors,
    original,
    parts,
    pictures,
    randomize,
    randomize_averages,
    run_file,
    texts,
    threads,
    worst,
)

import miniclip
from miniclip import resnet
from miniclip.layers import quick_gelu, relu
from miniclip.resnet import modified_resnet
from miniclip.train_step import is_statistic
from miniclip.tree import flatten, unflatten
from miniclip.vit import vision_transformer

torch = pytest.importorskip("torch")
KINKS = 0.05  # of a ReLU network's gradients in float32: see above

# embed_dim; pictures: size, layers, width, patch; texts: context, vocabulary, width, heads, layers.
SMALL = {
    "ViT, odd grid with a remainder": (24, 40, 2, 128, 12, 9, 60, 64, 2, 2),
    "ViT, one patch": (8, 16, 1, 64, 16, 5, 30, 32, 1, 1),
    "ResNet, odd grid": (20, 96, (1, 2, 1, 1), 4, None, 7, 50, 64, 2, 1),
    "ResNet, pools with a remainder": (20, 80, (2, 1, 1, 2), 6, None, 7, 50, 64, 2, 1),
    "ResNet, two blocks a stage": (12, 64, (2, 2, 2, 2), 2, None, 6, 40, 32, 1, 2),
}
COMMAND = Path(__file__).parents[1] / "benchmarks" / "parity.py"
FULL = run_file(COMMAND).SHAPES


@pytest.fixture(scope="module")
def openai():
    module = original("model.py")
    module.LayerNorm.forward = torch.nn.LayerNorm.forward
    return module


def config_of(geometry):
    embed_dim, size, layers, width, patch, context, vocabulary, text_width, heads, text_layers = geometry
    vision = {"image_size": size, "layers": layers, "width": width, "head_width": 64}
    return {
        "embed_dim": embed_dim,
        "quick_gelu": True,
        "vision_cfg": vision if patch is None else vision | {"patch_size": patch},
        "text_cfg": {
            "context_length": context,
            "vocab_size": vocabulary,
            "width": text_width,
            "heads": heads,
            "layers": text_layers,
        },
    }


def random_model(openai, geometry):
    torch.manual_seed(1)
    model = randomize(openai.CLIP(*geometry))
    if geometry[4] is None:
        images = pictures(np.random.default_rng(3), 4, geometry[1])
        randomize_averages(model.visual, torch.from_numpy(images).float())
    return model


def params_of(model):
    """miniclip's tree over the numbers of OpenAI's model: every name as it is."""
    return unflatten(
        {
            name: tensor.numpy()
            for name, tensor in model.state_dict().items()
            if not name.endswith("num_batches_tracked")
        }
    )


def compare(model, geometry, dtype, training, count=3):
    config, rng = config_of(geometry), np.random.default_rng(2)
    images, tokens = pictures(rng, count, config["vision_cfg"]["image_size"]), texts(rng, count, config)
    model.to(getattr(torch, dtype)).train(training)
    return compare_models(model, params_of(model), config, images, tokens, training)


@contextmanager
def activation(kind, openai, model):
    """The ResNet with ReLU, as it is, or with QuickGELU, in both libraries."""
    module, ours = (torch.nn.ReLU, relu) if kind == "relu" else (openai.QuickGELU, quick_gelu)
    places = [
        (child, name) for child in model.modules() for name in ("relu1", "relu2", "relu3") if hasattr(child, name)
    ]
    before = [getattr(child, name) for child, name in places]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resnet, "relu", ours)
        for child, name in places:
            setattr(child, name, module())
        yield
    for (child, name), old in zip(places, before):
        setattr(child, name, old)


def limits(dtype, kinks):
    """What each error may be, by its name."""

    def limit(name):
        if name == "embeddings":
            return EMBEDDINGS[dtype]
        return KINKS if kinks and name.startswith(("visual.", "dimages")) else LIMIT[dtype]

    return limit


def is_resnet(name):
    return name.startswith(("ResNet", "RN"))


CASES = [
    (name, dtype, *case)
    for name in SMALL
    for dtype in DTYPES
    for case in (
        [(False, "relu"), (True, "relu"), (False, "smooth"), (True, "smooth")]
        if is_resnet(name)
        else [(False, "as it is")]
    )
]


@pytest.mark.parametrize("name, dtype, training, kind", CASES)
def test_every_gradient_of_a_small_model(openai, name, dtype, training, kind):
    model = random_model(openai, SMALL[name])
    with activation(kind, openai, model):
        found = compare(model, SMALL[name], dtype, training)
    assert_within(found, limits(dtype, kinks=kind == "relu" and dtype == "float32"))
    assert len(found) > 50


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL)
def test_every_gradient_at_full_size(openai, name):
    model, count = random_model(openai, FULL[name]), {"RN50": 4, "RN50x4": 3}.get(name, 2)
    with threads(2):
        for dtype in DTYPES:
            for training in [False, True] if is_resnet(name) else [False]:
                for kind in ["relu", "smooth"] if is_resnet(name) and dtype == "float32" else ["relu"]:
                    with activation(kind, openai, model):
                        found = compare(model, FULL[name], dtype, training, count)
                    print(
                        f"{name} {dtype} {'train' if training else 'eval'} {kind if is_resnet(name) else ''}: "
                        f"embeddings {found['embeddings']:.1e}, loss {found['loss']:.1e}, "
                        f"gradients {worst(found)[0]:.1e} ({worst(found)[1]})"
                    )
                    kinks = is_resnet(name) and kind == "relu" and dtype == "float32"
                    assert_within(found, limits(dtype, kinks))


def test_pictures_that_are_not_square(openai):
    """The towers themselves take any shape that has as many cells as the model has positions."""
    for name, shape in (("ViT, odd grid with a remainder", (12, 108)), ("ResNet, pools with a remainder", (32, 128))):
        model = random_model(openai, SMALL[name]).double().eval()
        tower = modified_resnet if is_resnet(name) else vision_transformer
        images = np.random.default_rng(0).standard_normal((2, 3, *shape))
        pixels = torch.tensor(images, requires_grad=True)
        features = model.visual(pixels)
        ours, pull = tower(images, params_of(model)["visual"], config_of(SMALL[name]))
        dfeatures = np.random.default_rng(1).standard_normal(ours.shape)
        features.backward(torch.tensor(dfeatures))
        dimages, grads = pull(dfeatures)
        grads = {key: leaf for key, leaf in flatten(grads).items() if not is_statistic(key)}
        theirs = {key: tensor.grad.numpy() for key, tensor in model.visual.named_parameters()}
        found = errors(grads, theirs) | {"dimages": error(dimages, pixels.grad), "y": error(ours, features.detach())}
        assert_within(found, LIMIT["float64"])


# ------------------------------------------------------------------------------------------ can it fail?


@pytest.mark.parametrize("name", ["ViT, odd grid with a remainder", "ResNet, odd grid"])
def test_a_thousandth_on_any_one_gradient_is_seen(openai, name):
    """Each gradient in its turn is given 1.001 times its size; it alone is then named, in either dtype."""
    named = dict(random_model(openai, SMALL[name]).named_parameters())
    rng = np.random.default_rng(0)
    gradients = {key: rng.standard_normal(tensor.shape) * 10.0 ** rng.integers(-6, 3) for key, tensor in named.items()}
    for key in gradients:
        found = errors(gradients | {key: gradients[key] * 1.001}, gradients)
        expected = {part for part in parts({key: gradients[key]}) if not part.endswith("k_proj.bias")}
        assert expected <= {other for other, value in found.items() if value > 5e-4} <= {*parts({key: gradients[key]})}


@pytest.mark.parametrize(
    "weight",
    [
        "visual.conv1.weight",
        "visual.layer2.0.bn2.running_var",
        "ln_final.bias",
        "transformer.resblocks.0.attn.out_proj.weight",
    ],
)
def test_a_thousandth_on_any_one_parameter_is_seen(openai, weight):
    geometry = SMALL["ResNet, odd grid"]
    model, config, rng = random_model(openai, geometry), config_of(geometry), np.random.default_rng(2)
    model.double().eval()
    leaves = flatten(params_of(model))
    params = unflatten(leaves | {weight: leaves[weight] * 1.001})
    found = compare_models(model, params, config, pictures(rng, 3, 96), texts(rng, 3, config))
    assert worst(found)[0] > 1e3 * LIMIT["float64"]
    with pytest.raises(AssertionError, match="beyond their limit"):
        assert_within(found, LIMIT["float64"])


# ------------------------------------------------------------------------------------------ the command


@pytest.fixture
def command():
    return run_file(COMMAND)


@pytest.fixture
def file(openai, tmp_path):
    """A small model with CLIP's vocabulary, saved as OpenAI's code would be."""
    path = tmp_path / "small.pt"
    torch.save(random_model(openai, (32, 32, 2, 64, 8, 77, 49408, 64, 1, 2)).state_dict(), path)
    return path


@pytest.mark.parametrize("gradients", [[], ["--gradients"], ["--gradients", "float32"]])
def test_the_command_finds_the_same(command, file, gradients, capsys):
    assert command.main([str(file), *gradients]) == 0
    out = capsys.readouterr().out
    assert "none of the files that OpenAI published" in out and "OpenAI's model.py" in out
    assert ("logit_scale" in out or "median of all" in out) == bool(gradients)


def test_the_command_finds_what_is_not_the_same(command, file, monkeypatch, capsys):
    """A bias is in the embeddings; the temperature in none, but in the probabilities and, less so, in gradients."""
    clip = miniclip.load(file)
    monkeypatch.setattr(miniclip, "load", lambda path: clip)
    scale = clip.params["logit_scale"]
    for shift, arguments, status in ((0.1, [], 1), (1e-5, [], 0), (1e-5, ["--gradients"], 1)):
        clip.params["logit_scale"] = scale + np.float32(shift)
        assert command.main([str(file), *arguments]) == status
        assert ("NOT the same" in capsys.readouterr().out) == bool(status)
    clip.params["logit_scale"] = scale
    clip.params["visual"]["ln_post"]["bias"][3] += 0.01
    assert command.main([str(file)]) == 1


def test_the_command_knows_a_published_file_by_its_digest(command, file, monkeypatch, capsys):
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    monkeypatch.setattr(command, "PUBLISHED", {digest: "ViT-B/32"})
    assert command.main([str(file)]) == 0
    assert "small.pt: ViT-B/32 as OpenAI published it" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        ([], "name a model"),
        (["nowhere.pt"], "there is no nowhere.pt"),
        (["x", "--random", "RN50"], "name a model"),
        (["no-one/no-such-model"], "hf download"),
        (["{file}"], "miniclip cannot load it"),
        (["{folder}"], "there is no"),
    ],
)
def test_the_command_says_what_is_not_possible(command, tmp_path, arguments, sentence, capsys):
    (tmp_path / "bad.pt").write_bytes(b"PK not a file of PyTorch's")
    places = {"{file}": str(tmp_path / "bad.pt"), "{folder}": str(tmp_path)}
    assert command.main([places.get(argument, argument) for argument in arguments]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("parity: ") and sentence in printed.err and printed.err.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ViT-B/32", "RN50"])
def test_the_command_at_full_size(command, name):
    with threads(2):
        assert command.main(["--random", name]) == 0
