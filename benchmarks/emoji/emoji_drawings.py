"""Draw what an artist's package holds: every emoji as one square picture of 64 x 64 pixels with alpha.

SVG is drawn by resvg (the extra `build`), glyphs of a font by Pillow.
"""

import io
import json
import re
from pathlib import Path

import numpy as np
import openclipart
from emoji_packages import fetch, normal_code, read_members
from PIL import Image, ImageDraw, ImageFont

SIZE = 64
PAGE = 512
SKIN_TONES = set("\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff")


def read_style(style, folder, entries):
    """[(code, picture), ...] of what one style draws of `entries`, {code: entry}; uint8 (SIZE, SIZE, 4) each."""
    draw = {"png": draw_png, "svg": draw_svg, "font": draw_font, "clipart": draw_clipart}[style.kind]
    return [(code, squared(image)) for code, image in draw(fetch(style.package, folder), style.where, entries)]


def draw_png(tarball, folder, entries):
    """(code, image) of the PNG files of a folder."""
    members = read_members(tarball, lambda name: name.startswith(folder) and name.endswith(".png"))
    files = {normal_code(name[len(folder) : -4]): data for name, data in members.items()}
    return [(code, Image.open(io.BytesIO(files[code]))) for code in entries if code in files]


def draw_svg(tarball, table, entries):
    """(code, image) of the SVG bodies in icons.json that one table of icon_codes.json gives a code, or their name."""
    icons = json.loads(read_members(tarball, lambda name: name == "package/icons.json")["package/icons.json"])
    names = {}
    for name, code in icon_table(table, icons, entries).items():
        names.setdefault(code, []).append(name)
    drawn = []
    for code, name in [(c, name) for c in entries for name in names.get(c, [])]:
        icon = icons["icons"][icons.get("aliases", {}).get(name, {}).get("parent", name)]
        width, height = (icon.get(side, icons.get(side, 16)) for side in ("width", "height"))
        svg = (
            f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{icon.get("left", 0)} {icon.get("top", 0)} {width} {height}">{icon["body"]}</svg>'
        )
        drawn.append((code, rendered(svg, width=SIZE, height=SIZE)))
    return drawn


def icon_table(table, icons, entries):
    """{name of an icon: code}: a table of icon_codes.json, or for "names" the icons that are named as the emoji are."""
    if table != "names":
        return json.loads((Path(__file__).parent / "icon_codes.json").read_text())[table]
    hyphened = lambda name: re.sub("[^a-z0-9]+", "-", name.lower().replace("’", "")).strip("-")
    codes = {hyphened(entry["name"]): code for code, entry in entries.items()}
    return {name: codes[name] for name in [*icons["icons"], *icons["aliases"]] if name in codes}


def rendered(svg, **size):
    """An SVG as an RGBA image. Text is left out, for fonts differ between machines."""
    try:
        import resvg_py
    except ImportError:
        raise ValueError("the builder draws SVG with resvg_py; install it: pip install resvg_py==0.5.0") from None
    png = resvg_py.svg_to_bytes(svg_string=svg, dpi=96.0, skip_system_fonts=True, **size)
    return Image.open(io.BytesIO(bytes(png))).convert("RGBA")


def draw_font(tarball, member, entries):
    """(code, image) of the glyphs of a font, black on nothing. A sequence must join into one glyph.

    The line drawing knows no skin tone and often no gender: a glyph is given to the first, the most
    general, of the entries that it stands for.
    """
    data = read_members(tarball, lambda name: name == member)[member]
    font = ImageFont.truetype(io.BytesIO(data), SIZE * 3 // 4, layout_engine=ImageFont.Layout.RAQM)
    one_glyph = font.getlength("\U0001f600")
    seen, drawn = {bytes(font.getmask("\U0010ffff"))}, []
    for code in entries:
        text = "".join(chr(int(part, 16)) for part in code.split("-"))
        glyph = bytes(font.getmask(text))
        if font.getlength(text) == one_glyph and glyph not in seen and not SKIN_TONES & set(text):
            seen.add(glyph)
            image = Image.new("RGBA", (SIZE, SIZE))
            ImageDraw.Draw(image).text((SIZE / 2, SIZE / 2), text, font=font, anchor="mm", fill="black")
            drawn.append((code, image))
    return drawn


def draw_clipart(package_file, folder, entries):
    """(code, image) of the SVG files below a folder that openclipart.json names, cut to what is drawn in them.

    A page is drawn at a width of PAGE pixels, and once more, larger, where little stands on it.
    """
    code_of = {entry["name"]: code for code, entry in entries.items()}
    wanted = {folder + path: code_of[name] for name, paths in openclipart.read_table().items() for path in paths}
    members = read_members(package_file, wanted.__contains__)
    drawn = []
    for path, code in wanted.items():
        svg = members[path].decode("utf-8", "replace")
        image = rendered(svg, width=PAGE)
        box = inked(image)
        larger = PAGE // 2 // max(box[2] - box[0], box[3] - box[1])
        if larger > 1:
            image = rendered(svg, width=PAGE * min(larger, 8))
            box = inked(image)
        drawn.append((code, image.crop(box)))
    return drawn


def inked(image):
    """The box (left, top, right, bottom) around what can be seen of an RGBA image."""
    return image.getchannel("A").point(lambda alpha: 255 * (alpha > 16)).getbbox()


def squared(image):
    """Image of any size and mode -> uint8 (SIZE, SIZE, 4), centred on a transparent square, straight alpha."""
    image = image.convert("RGBA")
    side = max(image.size)
    square = Image.new("RGBA", (side, side))
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    if side != SIZE:
        square = square.convert("RGBa").resize((SIZE, SIZE), Image.LANCZOS).convert("RGBA")
    pixels = np.array(square)
    pixels[pixels[..., 3] == 0] = 0
    return pixels
