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
that is 0 up to rounding, so there a ResNet's gradients are shown, not judged.
"""

import argparse
import hashlib
import importlib.util
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np

import miniclip
from miniclip.checkpoints.find import find_weights
from miniclip.checkpoints.huggingface import from_huggingface_arrays
from miniclip.checkpoints.openai import from_openai
from miniclip.data.emoji import emoji_pictures
from miniclip.layers import l2_normalize, softmax
from miniclip.init import is_resnet
from miniclip.preprocess import preprocess
from miniclip.tree import flatten, tree_map

# What counts as the same.
EMBEDDINGS, PROBABILITIES, GRADIENTS = 1e-5, 1e-4, {"float32": 1e-4, "float64": 1e-8}
CODES = ["1f431", "1f436", "1f34e", "1f697", "2b50", "1f333", "1f600", "26bd"]
TEXTS = [
    "a photo of a cat",
    "a photo of a dog",
    "a red apple",
    "a car, seen from the side",
    "a star",
    "a tree",
    "a face with a big grin",
    "a football",
]
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


def import_or_say(name, package):
    """A module; NotPossible, naming the package to install, where it is not there."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise NotPossible(f"the reference needs {name} ({error}): pip install {package}.") from None


def openai_code():
    """OpenAI's model.py, loaded alone (its package wants torchvision), fit for float64."""
    torch = import_or_say("torch", "torch")
    spec = importlib.util.find_spec("clip")
    paths = [Path(place) / "model.py" for place in (spec.submodule_search_locations or [])] if spec else []
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        raise NotPossible("the reference needs OpenAI's model.py: pip install --no-deps clip-anytorch.")
    spec = importlib.util.spec_from_file_location("openai_model", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.LayerNorm.forward = torch.nn.LayerNorm.forward  # theirs computes in float32 whatever comes
    module.convert_weights = lambda model: None  # nothing is rounded to float16 that was not
    return torch, module


class OpenAI:
    """A .pt file in OpenAI's code."""

    def __init__(self, path):
        torch, module = openai_code()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what torch thinks of TorchScript
                try:
                    state = torch.jit.load(path, map_location="cpu").state_dict()
                except RuntimeError:
                    state = torch.load(path, map_location="cpu", weights_only=True)
            self.model = module.build_model(dict(state)).float()
        except Exception as error:
            raise NotPossible(f"OpenAI's code cannot read {path}: {str(error)[:300]}") from None
        self.name, self.images, self.texts = "OpenAI's model.py", self.model.encode_image, self.model.encode_text

    @staticmethod
    def rename(named, names):
        """{the reference's name: array} -> {miniclip's name: array}, of which there are `names`."""
        return from_openai(named)


class Transformers:
    """A folder in the Hugging Face layout in transformers' CLIPModel."""

    def __init__(self, path):
        transformers = import_or_say("transformers", "transformers")
        transformers.utils.logging.disable_progress_bar()
        self.model = transformers.CLIPModel.from_pretrained(path).eval().float()
        self.name = f"transformers {transformers.__version__}"

    def images(self, pixels):
        return self._features(self.model.get_image_features(pixel_values=pixels))

    def texts(self, tokens):
        return self._features(self.model.get_text_features(input_ids=tokens))

    @staticmethod
    def _features(output):
        return getattr(output, "pooler_output", output)

    rename = staticmethod(from_huggingface_arrays)


class OpenCLIP:
    """A folder with open_clip's config in open_clip."""

    def __init__(self, path):
        open_clip = import_or_say("open_clip", "open_clip_torch")
        self.model = open_clip.create_model(f"local-dir:{path}").eval().float()
        self.name = f"open_clip {open_clip.__version__}"
        self.images, self.texts = self.model.encode_image, self.model.encode_text

    @staticmethod
    def rename(named, names):
        return from_openai(named)


def reference_of(path):
    """The reference that a file of weights is meant for, loaded."""
    if path.suffix == ".pt":
        return OpenAI(path)
    if path.name.startswith("open_clip"):
        return OpenCLIP(path.parent)
    if (path.parent / "config.json").exists():
        return Transformers(path.parent)
    raise NotPossible(
        f"{path} has no reference to compare with: it is neither OpenAI's .pt file, nor from a folder "
        "that transformers or open_clip wrote."
    )


# ------------------------------------------------------------------------------------------ which model


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


def published_name(path):
    """Which of OpenAI's files this is, by its sha256, or None."""
    with open(path, "rb") as file:
        return PUBLISHED.get(hashlib.file_digest(file, "sha256").hexdigest())


# ------------------------------------------------------------------------------------------ comparing


def handful():
    """Eight emoji of the style that no model here is trained on, (8, S, S, 4) uint8."""
    pictures, codes = emoji_pictures("fluent")
    return pictures[[codes.index(code) for code in CODES]]


def compare_embeddings(clip, reference, pictures, tokens):
    """Largest difference of unit embeddings of pictures and of texts, and of the probabilities."""
    import torch

    pixels = torch.from_numpy(preprocess(pictures, clip.config))
    with torch.no_grad():
        theirs = [
            l2_normalize(reference.images(pixels).numpy())[0],
            l2_normalize(reference.texts(torch.from_numpy(tokens)).numpy())[0],
        ]
    ours = [clip.encode_image(pictures), clip.encode_text(TEXTS)]
    their_scale, scale = reference.model.logit_scale.exp().item(), np.exp(clip.params["logit_scale"])
    probabilities = [softmax(s * (z[0] @ z[1].T))[0] for s, z in ((scale, ours), (their_scale, theirs))]
    return {
        "embeddings of pictures": largest(ours[0], theirs[0]),
        "embeddings of texts": largest(ours[1], theirs[1]),
        "probabilities": largest(*probabilities),
    }


def largest(a, b):
    return float(np.nan_to_num(np.abs(a - b), nan=np.inf).max())


def our_gradients(clip, pictures, tokens, dtype):
    """{name: gradient} of CLIP's loss, the loss first."""
    params = tree_map(lambda a: a.astype(dtype), clip.params)
    pixels = preprocess(pictures, clip.config).astype(dtype)
    image_features, pull_image = miniclip.encode_image(params, pixels, clip.config)
    text_features, pull_text = miniclip.encode_text(params, tokens, clip.config)
    loss, pull = miniclip.clip_loss(image_features, text_features, params["logit_scale"])
    d_image, d_text, d_scale = pull()
    return loss, flatten({**pull_image(d_image), **pull_text(d_text), "logit_scale": d_scale})


def their_gradients(clip, reference, pictures, tokens, dtype):
    """The same of the reference, in miniclip's names."""
    import torch
    from torch.nn.functional import cross_entropy, normalize

    model = reference.model.to(getattr(torch, dtype))
    pixels = torch.from_numpy(preprocess(pictures, clip.config).astype(dtype))
    features = reference.images(pixels), reference.texts(torch.from_numpy(tokens))
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
        if name.endswith(("running_mean", "running_var")):
            continue
        scale = np.linalg.norm(theirs[name.replace("k_proj.bias", "k_proj.weight")])
        result[name] = float(np.linalg.norm(gradient - theirs[name]) / scale) if scale else float(np.any(gradient))
    return result


def check(path, gradients):
    """Print what was compared and how near it is -> whether it is near enough."""
    try:
        clip = miniclip.load(path)
    except (ValueError, OSError) as error:
        raise NotPossible(f"miniclip cannot load it: {error}") from None
    reference = reference_of(path)
    pictures, context = handful(), clip.config["text_cfg"]["context_length"]
    tokens = clip.tokenizer(TEXTS, context)
    print(f"reference: {reference.name}; {len(pictures)} pictures, {len(TEXTS)} texts, float32")
    found = compare_embeddings(clip, reference, pictures, tokens)
    for what, value in found.items():
        print(f"    {what:24} differ by at most {value:.1e}")
    good = max(found["embeddings of pictures"], found["embeddings of texts"]) <= EMBEDDINGS
    good = good and found["probabilities"] <= PROBABILITIES
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
            print("    (not judged: ReLU's kinks; float64 can tell)")
    print("the same, as far as float32 goes" if good else "NOT the same")
    return good


def main(arguments=None):
    """The command: 0 the same, 1 not the same, 2 not possible."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("model", nargs="?", help="a file, a folder, or the name of a model that was downloaded")
    options.add_argument("--random", choices=SHAPES, help="random weights of this shape instead")
    options.add_argument(
        "--gradients",
        nargs="?",
        const="float64",
        choices=GRADIENTS,
        help="compare every parameter's gradient too, in float64 or float32",
    )
    options = options.parse_args(arguments)
    if (options.model is None) == (options.random is None):
        print("parity: name a model, or --random and a shape.", file=sys.stderr)
        return 2
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = find_weights(options.model) if options.model else write_random(options.random, Path(folder))
            if path.suffix == ".pt":
                name = published_name(path)
                print(
                    f"{path.name}: "
                    + (
                        f"{name} as OpenAI published it (sha256)"
                        if name
                        else "random weights"
                        if options.random
                        else "none of the files that OpenAI published (sha256)"
                    )
                )
            return 0 if check(path, options.gradients) else 1
    except (NotPossible, FileNotFoundError) as error:
        print(f"parity: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
