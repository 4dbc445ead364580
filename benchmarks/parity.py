"""Do the real weights give the same numbers here as in the library they come from?

    python benchmarks/parity.py openai/clip-vit-base-patch32       what `hf download openai/…` fetched
    python benchmarks/parity.py path/to/ViT-B-32.pt                a file as OpenAI published it
    python benchmarks/parity.py path/to/folder                     what transformers or open_clip saved
    python benchmarks/parity.py --random ViT-B/32                  no weights, no network: random ones, full size

The model is loaded twice: by miniclip.load, and by the reference that the file is meant for (OpenAI's own
model.py for a .pt file, from `pip install --no-deps clip-anytorch`; transformers; open_clip). Both embed
the same pictures, emoji that ship with miniclip, and the same texts. Printed are the largest differences of
any number in the unit embeddings and in the probabilities. The exit status is 1 where an embedding is
further away than 1e-5 or a probability than 1e-4, and 2 where nothing could be compared.

With --gradients also the relative difference ‖a − b‖ / ‖b‖ of every parameter's gradient of CLIP's loss, in
float64 unless float32 is asked for. In float32 nobody knows on which side of a ReLU's kink a number lies
that is 0 up to rounding, so there a ResNet's gradients are printed and do not decide.
"""

import argparse
import hashlib
import importlib.util
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import miniclip
from miniclip.checkpoints import arrays_from_huggingface, arrays_from_openai, find_weights
from miniclip.data import emoji_pictures
from miniclip.init import is_resnet
from miniclip.layers import l2_normalize, softmax
from miniclip.preprocess import preprocess
from miniclip.tree import flatten, tree_map

# What counts as the same.
EMBEDDINGS, PROBABILITIES, GRADIENTS = 1e-5, 1e-4, {"float32": 1e-4, "float64": 1e-8}
CODES = "1f431 1f436 1f34e 1f697 2b50 1f333 1f600 26bd".split()
TEXTS = (
    "a photo of a cat / a photo of a dog / a red apple / a car, seen from the side / a star / a tree / "
    "a face with a big grin / a football"
).split(" / ")
# The sha256 of the files that OpenAI published; it is part of their addresses.
PUBLISHED = {
    "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762": "RN50",
    "8fa8567bab74a42d41c5915025a8e4538c3bdbe8804a470a72f30b0d94fab599": "RN101",
    "7e526bd135e493cef0776de27d5f42653e6b4c8bf9e0f653bb11773263205fdd": "RN50x4",
    "52378b407f34354e150460fe41077663dd5b39c54cd0bfd2b27167a4a06ec9aa": "RN50x16",
    "be1cfb55d75a9666199fb2206c106743da0f6468c9d327f3e0d0a543a9919d9c": "RN50x64",
    "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af": "ViT-B/32",
    "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f": "ViT-B/16",
    "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836": "ViT-L/14",
    "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02": "ViT-L/14@336px",
}
# What OpenAI's CLIP(...) takes: embed_dim; pictures: size, layers, width, patch; texts: context … layers.
SHAPES = {
    "ViT-B/32": (512, 224, 12, 768, 32, 77, 49408, 512, 8, 12),
    "ViT-B/16": (512, 224, 12, 768, 16, 77, 49408, 512, 8, 12),
    "ViT-L/14": (768, 224, 24, 1024, 14, 77, 49408, 768, 12, 12),
    "RN50": (1024, 224, (3, 4, 6, 3), 64, None, 77, 49408, 512, 8, 12),
    "RN50x4": (640, 288, (4, 6, 10, 6), 80, None, 77, 49408, 640, 10, 12),
}


class NotPossible(Exception):
    """A sentence for the person at the terminal."""


# ------------------------------------------------------------------------------------------ the reference


@dataclass
class Reference:
    """Another library's model of the same weights."""

    name: str
    model: object  # a torch module with logit_scale
    encode_image: Callable
    encode_text: Callable
    rename: Callable = lambda named, names: arrays_from_openai(named)  # {its name: array} -> {our name: array}


def import_or_stop(name, package):
    """A module; NotPossible, naming the package to install, where it is not there."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise NotPossible(f"the reference needs {name} ({error}): pip install {package}.") from None


def openai_file(name):
    """The path of one file of OpenAI's package, which is not imported, for it wants torchvision."""
    spec = importlib.util.find_spec("clip")
    paths = [Path(place) / name for place in (spec.submodule_search_locations or [])] if spec else []
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        raise NotPossible(f"the reference needs OpenAI's {name}: pip install --no-deps clip-anytorch.")
    return path


def run_file(path):
    """A Python file as a module that nobody else imports."""
    spec = importlib.util.spec_from_file_location(f"openai_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def openai_code():
    """torch, and OpenAI's model.py, fit for float64."""
    torch, module = import_or_stop("torch", "torch"), run_file(openai_file("model.py"))
    module.LayerNorm.forward = torch.nn.LayerNorm.forward  # theirs computes in float32 whatever comes
    module.convert_weights = lambda model: None  # nothing is rounded to float16 that was not
    return torch, module


def openai_reference(path):
    """A .pt file in OpenAI's code."""
    torch, module = openai_code()
    try:
        with warnings.catch_warnings(action="ignore"):  # what torch thinks of TorchScript
            try:
                state = torch.jit.load(path, map_location="cpu").state_dict()
            except RuntimeError:
                state = torch.load(path, map_location="cpu", weights_only=True)
        model = module.build_model(dict(state)).float()
    except Exception as error:
        raise NotPossible(f"OpenAI's code cannot read {path}: {str(error)[:300]}") from None
    return Reference("OpenAI's model.py", model, model.encode_image, model.encode_text)


def open_clip_reference(folder):
    """A folder with open_clip's config in open_clip."""
    open_clip = import_or_stop("open_clip", "open_clip_torch")
    model = open_clip.create_model(f"local-dir:{folder}").eval().float()
    return Reference(f"open_clip {open_clip.__version__}", model, model.encode_image, model.encode_text)


def transformers_reference(folder):
    """A folder in the Hugging Face layout in transformers' CLIPModel."""
    transformers = import_or_stop("transformers", "transformers")
    transformers.utils.logging.disable_progress_bar()
    model = transformers.CLIPModel.from_pretrained(folder).eval().float()

    def features(output):  # transformers 5 gives an object that holds them, 4 the features
        return getattr(output, "pooler_output", output)

    return Reference(
        f"transformers {transformers.__version__}",
        model,
        lambda pixels: features(model.get_image_features(pixel_values=pixels)),
        lambda tokens: features(model.get_text_features(input_ids=tokens)),
        arrays_from_huggingface,
    )


def reference_of(path):
    """The reference that a file of weights is meant for, loaded."""
    if path.suffix == ".pt":
        return openai_reference(path)
    if path.name.startswith("open_clip"):
        return open_clip_reference(path.parent)
    if (path.parent / "config.json").exists():
        return transformers_reference(path.parent)
    raise NotPossible(f"{path} is neither OpenAI's .pt file, nor from a folder that transformers or open_clip wrote.")


def write_random(name, folder):
    """Random weights of a published shape, written by OpenAI's code -> the path of the file."""
    torch, module = openai_code()
    torch.manual_seed(0)
    model = module.CLIP(*SHAPES[name])
    for tensor in model.parameters():
        if tensor.ndim < 2:  # biases and norms, so that none is 0 or 1
            tensor.data += 0.1 * torch.randn(tensor.shape)
    path = folder / f"{name.replace('/', '-')}.pt"
    torch.save(model.state_dict(), path)
    return path


# ------------------------------------------------------------------------------------------ comparing


def compare_embeddings(clip, reference, pictures, tokens):
    """Largest difference of unit embeddings of pictures and of texts, and of the probabilities."""
    import torch

    pixels = torch.from_numpy(preprocess(pictures, clip.config))
    with torch.no_grad():
        features = [reference.encode_image(pixels), reference.encode_text(torch.from_numpy(tokens))]
    theirs = [l2_normalize(one.numpy())[0] for one in features]
    ours = [clip.encode_image(pictures), clip.encode_text(TEXTS)]
    scales = np.exp(clip.params["logit_scale"]), reference.model.logit_scale.exp().item()
    probabilities = [softmax(scale * (z[0] @ z[1].T))[0] for scale, z in zip(scales, (ours, theirs))]
    pairs = {"embeddings of pictures": (ours[0], theirs[0]), "embeddings of texts": (ours[1], theirs[1])}
    pairs["probabilities"] = probabilities
    return {what: float(np.nan_to_num(np.abs(a - b), nan=np.inf).max()) for what, (a, b) in pairs.items()}


def our_gradients(clip, pictures, tokens, dtype):
    """CLIP's loss, and {name: gradient}."""
    params = tree_map(lambda a: a.astype(dtype), clip.params)
    pixels = preprocess(pictures, clip.config).astype(dtype)
    image_features, image_backward = miniclip.encode_image(params, pixels, clip.config)
    text_features, text_backward = miniclip.encode_text(params, tokens, clip.config)
    loss, backward = miniclip.clip_loss(image_features, text_features, params["logit_scale"])
    d_image, d_text, d_scale = backward()
    return loss, flatten({**image_backward(d_image), **text_backward(d_text), "logit_scale": d_scale})


def their_gradients(clip, reference, pictures, tokens, dtype):
    """The same of the reference, in miniclip's names."""
    import torch
    from torch.nn.functional import cross_entropy, normalize

    model = reference.model.to(getattr(torch, dtype))
    pixels = torch.from_numpy(preprocess(pictures, clip.config).astype(dtype))
    features = reference.encode_image(pixels), reference.encode_text(torch.from_numpy(tokens))
    logits = model.logit_scale.exp() * normalize(features[0], dim=-1) @ normalize(features[1], dim=-1).T
    truth = torch.arange(len(logits))
    loss = (cross_entropy(logits, truth) + cross_entropy(logits.T, truth)) / 2
    loss.backward()
    gradients = {name: parameter.grad.numpy() for name, parameter in model.named_parameters()}
    return loss.item(), reference.rename(gradients, list(flatten(clip.params)))


def compare_gradients(ours, theirs):
    """{name: ‖a − b‖ / ‖b‖}; attention's keys' biases, 0 in truth, against their weights' gradients."""
    result = {}
    for name, gradient in ours.items():
        if not name.endswith(("running_mean", "running_var")):
            scale = np.linalg.norm(theirs[name.replace("k_proj.bias", "k_proj.weight")])
            difference = np.linalg.norm(gradient - theirs[name])
            result[name] = float(difference / scale) if scale else float(np.any(gradient))
    return result


def check(path, gradients):
    """Print what was compared and how near it is -> whether it is near enough."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of what shapes do not show: .pt files are OpenAI's here
            clip = miniclip.load(path)
    except (ValueError, OSError) as error:
        raise NotPossible(f"miniclip cannot load it: {error}") from None
    reference = reference_of(path)
    pictures, codes = emoji_pictures("fluent")  # the style that no model here is trained on
    pictures = pictures[[codes.index(code) for code in CODES]]
    tokens = clip.tokenizer(TEXTS, clip.config["text_cfg"]["context_length"])
    print(f"reference: {reference.name}; {len(pictures)} pictures, {len(TEXTS)} texts, float32")
    found = compare_embeddings(clip, reference, pictures, tokens)
    for what, value in found.items():
        print(f"    {what:24} differ by at most {value:.1e}")
    good = all(value <= (PROBABILITIES if what == "probabilities" else EMBEDDINGS) for what, value in found.items())
    if gradients:
        some = pictures[:4], tokens[:4]
        loss, ours = our_gradients(clip, *some, gradients)
        their_loss, theirs = their_gradients(clip, reference, *some, gradients)
        errors = compare_gradients(ours, theirs)
        worst = sorted(errors, key=errors.get, reverse=True)
        print(f"gradients of {len(errors)} parameters in {gradients}; loss {loss:.6f} here, {their_loss:.6f} there")
        for name in worst[:5]:
            print(f"    {name:56} {errors[name]:.1e}")
        print(f"    {'the median of all':56} {np.median(list(errors.values())):.1e}")
        if gradients == "float64" or not is_resnet(clip.config):
            good = good and errors[worst[0]] <= GRADIENTS[gradients]
        else:
            print("    (these do not decide, because of ReLU's kinks; float64 can tell)")
    print("the same, as far as float32 goes" if good else "NOT the same")
    return good


def main(arguments=None):
    """The command: 0 the same, 1 not the same, 2 not possible."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", help="a file, a folder, or the name of a model that was downloaded")
    parser.add_argument("--random", choices=SHAPES, help="random weights of this shape instead")
    what = "compare every parameter's gradient too, in float64 or float32"
    parser.add_argument("--gradients", nargs="?", const="float64", choices=GRADIENTS, help=what)
    options = parser.parse_args(arguments)
    try:
        if (options.model is None) == (options.random is None):
            raise NotPossible("name a model, or --random and a shape.")
        with tempfile.TemporaryDirectory() as folder:
            path = find_weights(options.model) if options.model else write_random(options.random, Path(folder))
            if path.suffix == ".pt":
                with open(path, "rb") as file:
                    name = PUBLISHED.get(hashlib.file_digest(file, "sha256").hexdigest())
                other = "random weights" if options.random else "none of the files that OpenAI published (sha256)"
                print(f"{path.name}: {f'{name} as OpenAI published it (sha256)' if name else other}")
            return 0 if check(path, options.gradients) else 1
    except (NotPossible, FileNotFoundError) as error:
        print(f"parity: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
