"""What shapes do not show, of models that are known: how wide a head is, and which GELU it is.

A state dict alone has neither. The architectures are those of OpenAI and of open_clip, by open_clip's names;
`-quickgelu` behind a name says QuickGELU, as a / in one of OpenAI's does. Weights of LAION are GELU by their names.
"""

import re

from .untrusted import Damaged

# name: embed_dim; pictures: layers, width, patch, width of a head, size; texts: layers, width (heads are 64 wide)
ARCHITECTURES = {
    "ViT-B-32": (512, 12, 768, 32, 64, 224, 12, 512),
    "ViT-B-32-256": (512, 12, 768, 32, 64, 256, 12, 512),
    "ViT-B-16": (512, 12, 768, 16, 64, 224, 12, 512),
    "ViT-B-16-plus-240": (640, 12, 896, 16, 64, 240, 12, 640),
    "ViT-L-14": (768, 24, 1024, 14, 64, 224, 12, 768),
    "ViT-L-14-336": (768, 24, 1024, 14, 64, 336, 12, 768),
    "ViT-H-14": (1024, 32, 1280, 14, 80, 224, 24, 1024),
    "ViT-H-14-378": (1024, 32, 1280, 14, 80, 378, 24, 1024),
    "ViT-g-14": (1024, 40, 1408, 14, 88, 224, 24, 1024),
    "ViT-bigG-14": (1280, 48, 1664, 14, 104, 224, 32, 1280),
    "RN50": (1024, [3, 4, 6, 3], 64, None, 64, 224, 12, 512),
    "RN101": (512, [3, 4, 23, 3], 64, None, 64, 224, 12, 512),
    "RN50x4": (640, [4, 6, 10, 6], 80, None, 64, 288, 12, 640),
    "RN50x16": (768, [6, 8, 18, 8], 96, None, 64, 384, 12, 768),
    "RN50x64": (1024, [3, 15, 36, 10], 128, None, 64, 448, 12, 1024),
}
NOT_OPENAI = ("ViT-B-16-plus-240", "ViT-H-14", "ViT-g-14", "ViT-bigG-14")  # of which there is none of OpenAI's
LAION = {  # open_clip's model/weights: where they are on the Hub
    "ViT-B-32/laion2b_s34b_b79k": "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
    "ViT-B-32/datacomp_xl_s13b_b90k": "laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K",
    "ViT-B-32-256/datacomp_s34b_b86k": "laion/CLIP-ViT-B-32-256x256-DataComp-s34B-b86K",
    "ViT-B-16/laion2b_s34b_b88k": "laion/CLIP-ViT-B-16-laion2B-s34B-b88K",
    "ViT-B-16/datacomp_xl_s13b_b90k": "laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K",
    "ViT-L-14/laion2b_s32b_b82k": "laion/CLIP-ViT-L-14-laion2B-s32B-b82K",
    "ViT-L-14/datacomp_xl_s13b_b90k": "laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K",
    "ViT-H-14/laion2b_s32b_b79k": "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
    "ViT-g-14/laion2b_s12b_b42k": "laion/CLIP-ViT-g-14-laion2B-s12B-b42K",
    "ViT-g-14/laion2b_s34b_b88k": "laion/CLIP-ViT-g-14-laion2B-s34B-b88K",
    "ViT-bigG-14/laion2b_s39b_b160k": "laion/CLIP-ViT-bigG-14-laion2B-39B-b160k",
}
GELU = re.compile(r"laion2b|datacomp|commonpool|laion400m", re.IGNORECASE)
HALF = [0.5, 0.5, 0.5]


def architecture(config):
    """The row of `ARCHITECTURES` that a configuration has, but for the size of pictures: its name, or None."""
    ours = _numbers(config)
    return next((name for name, row in ARCHITECTURES.items() if (*row[:4], *row[6:]) == ours), None)


def named(model, config):
    """(width of a head, whether QuickGELU or None where the name does not say) of a model named by the caller.

    model: open_clip's name or OpenAI's; config: what the shapes say. ValueError where there is no such name, or
    where the shapes are another's.
    """
    name = str(model).replace("/", "-").replace("@", "-").removesuffix("px").removesuffix("-quickgelu")
    if name not in ARCHITECTURES:
        raise Damaged(f"there is no model {str(model)[:60]!r}; the names are {', '.join(ARCHITECTURES)}")
    row = ARCHITECTURES[name]
    if (*row[:4], *row[6:]) != _numbers(config):
        other = architecture(config)
        raise Damaged(f"its shapes are not those of {model}" + (f", but of {other}" if other else ""))
    quick = True if "/" in str(model) or str(model).endswith("-quickgelu") else None if name.startswith("RN") else False
    return row[4], quick


def by_name(name):
    """(whether QuickGELU or None, mean and deviation or None) that weights of this name have: of file and folder."""
    if not GELU.search(name):
        return None, None
    plain = name.lower().replace("_", "-")
    if "laion400m" in plain:  # the first of LAION's were trained with QuickGELU
        return "b-32" in plain or "patch32" in plain, None
    return False, HALF if "l-14" in plain and "laion2b-s32b" in plain else None


def _numbers(config):
    vision, text = config["vision_cfg"], config["text_cfg"]
    pictures = vision["layers"], vision["width"], vision.get("patch_size")
    return config["embed_dim"], *pictures, text["layers"], text["width"]
