"""What kind of model weights are: by the files beside them, else by shapes, a known name, and what a caller says."""

from dataclasses import dataclass

from ..init import is_resnet
from .find import name_of
from .huggingface import config_from_huggingface
from .known import ARCHITECTURES, NOT_OPENAI, architecture, by_name, named
from .openai import config_from_open_clip, config_from_shapes, preprocessing, short
from .untrusted import Damaged, parse_json

LARGEST_JSON = 1 << 19  # bytes
SAY = (
    "load(..., quick_gelu=True or False, head_width=64), or a name, load(..., model='ViT-B-32'); "
    "in a command, --quick-gelu or --no-quick-gelu, --head-width 64, or --model ViT-B-32"
)


@dataclass
class Said:
    """What a caller of `load` says of a model: it outranks what stands beside the weights."""

    model: str | None = None
    quick_gelu: bool | None = None
    head_width: int | tuple | None = None
    image_size: int | None = None

    def __post_init__(self):
        widths = self.head_width if isinstance(self.head_width, (tuple, list)) else [self.head_width] * 2
        if len(widths) != 2 or not all(width is None or type(width) is int and width > 0 for width in widths):
            raise ValueError(
                f"head_width is {self.head_width!r}; give a whole number, or two: of pictures and of texts."
            )
        self.widths = tuple(widths)
        if self.quick_gelu not in (None, True, False):
            raise ValueError(f"quick_gelu is {self.quick_gelu!r}; say True for QuickGELU or False for GELU.")


def describe(path, arrays, hub, traced, said):
    """Configuration, `about`, the folder of the files that say so or None, and a warning or "".

    path: of the weights; arrays: {name: array}; hub: whether the names are Hugging Face's; traced: whether OpenAI's
    program wrote them; said: `Said`. ValueError where the files beside the weights cannot be used, or are missing.
    """
    folder = path.parent
    about = {"folder": name_of(folder), "file": path.name}
    # A folder may be called anything, but where the file's own name says nothing.
    name = f"{name_of(folder)} {path.name}" if path.name.startswith("open_clip") else path.name
    known = said.model is not None or said.quick_gelu is not None or by_name(name)[0] is not None
    described = (folder / "open_clip_config.json").is_file()
    try:
        if hub:
            config = config_from_huggingface(read_json(folder / "config.json"), _pixels_beside(folder))
            return as_said(config, said), {"layout": "huggingface", **about}, folder, ""
        if described or path.name.startswith("open_clip") and not known:
            if not described:
                raise ValueError(f"{folder / 'open_clip_config.json'} is missing: put it there, or say {SAY}")
            description = read_json(folder / "open_clip_config.json")
            config = config_from_open_clip(description)
            if description["model_cfg"]["text_cfg"].get("hf_tokenizer_name") and not has_vocabulary(folder):
                raise ValueError("text_cfg.hf_tokenizer_name asks for a tokenizer that is not beside it")
            return as_said(config, said), {"layout": "open_clip", **about}, folder, ""
        config, source, warning = _without_files(arrays, name, traced, said)
    except ValueError as error:
        raise ValueError(f"{path} cannot be used, by its configuration or its shapes: {error}.") from None
    return config, {"layout": "openai", "configuration": source, "file": path.name}, None, warning


def as_said(config, said):
    """A configuration with what the caller says."""
    if said.model is not None:
        width, quick = named(said.model, config)
        said = Said(None, quick if said.quick_gelu is None else said.quick_gelu, said.head_width or (width, 64))
    if said.quick_gelu is not None:
        config = config | {"quick_gelu": bool(said.quick_gelu)}
    for part, key, width in zip(("vision_cfg", "text_cfg"), ("head_width", "heads"), said.widths):
        if width is not None:
            whole = config[part]["width"] * (32 if key == "head_width" and is_resnet(config) else 1)
            if whole % width:
                raise Damaged(f"head_width is {width}, no divisor of {part}.width, {whole}; give two where they differ")
            config = config | {part: short(config[part] | {key: width if key == "head_width" else whole // width})}
    return config


def _without_files(arrays, name, traced, said):
    """Configuration by the shapes, where it is from, and a warning about what had to be assumed."""
    config, unsure = config_from_shapes(arrays), []
    shape = architecture(config)
    source = "from the shapes"
    if shape:
        config = as_said(config, Said(head_width=(ARCHITECTURES[shape][4], 64)))
    elif not traced and None in said.widths:  # OpenAI's program always takes 64
        unsure.append("heads 64 wide")
    if shape in NOT_OPENAI:
        config |= {"quick_gelu": False}
    quick, mean = by_name(name)
    if quick is not None and said.quick_gelu is None and said.model is None:
        config |= {"quick_gelu": quick, "preprocess": preprocessing(mean, mean)}
        source = f"from the shapes, {'QuickGELU' if quick else 'GELU'} by its name"
    if said.model is not None:
        quick, source = named(said.model, config)[1], f"from the shapes, as {said.model}"
    config = as_said(config, said)
    if not traced and quick is None and said.quick_gelu is None:
        theirs = "QuickGELU, as in OpenAI's models (others have GELU)"
        unsure.insert(0, theirs if config["quick_gelu"] else "GELU, as in LAION's models (a few have QuickGELU)")
    text = config["text_cfg"]
    if text["heads"] * 64 != text["width"] and said.widths[1] is None:
        raise ValueError(f"text_cfg.heads cannot be seen in shapes, and 64 is no divisor of {text['width']}: say {SAY}")
    warning = (
        f"there is no configuration beside it, and shapes do not show what is assumed: {', '.join(unsure)}. Say {SAY}."
    )
    return config, source, warning if unsure else ""


def _pixels_beside(folder):
    """What says how pictures are prepared: preprocessor_config.json, or its part of processor_config.json, or None."""
    if (folder / "preprocessor_config.json").is_file():
        return read_json(folder / "preprocessor_config.json")
    if (folder / "processor_config.json").is_file():
        both = read_json(folder / "processor_config.json")
        return both.get("image_processor") if isinstance(both, dict) else both
    return None


def read_json(path):
    """What a small JSON file holds. ValueError where it is damaged or too large, or is not there."""
    if not path.is_file():
        raise ValueError(f"{path} is missing, which says what kind of model it is")
    if path.stat().st_size > LARGEST_JSON:
        raise ValueError(f"{path} has more than {LARGEST_JSON} bytes, too many for a configuration")
    try:
        return parse_json(path.read_bytes())
    except Damaged as error:
        raise ValueError(f"{path} is damaged, and no JSON that can be used: {error}") from None


def has_vocabulary(folder):
    """Whether the files of a tokenizer lie in this folder."""
    whole, merges, ids = ((folder / name).is_file() for name in ("tokenizer.json", "merges.txt", "vocab.json"))
    return whole or merges and ids
