"""Read the artists' npm packages: fetch them, check them, and draw each emoji as one square picture.

Pictures and names are joined on their code points: lower-case hexadecimal without leading zeros and
without the variation selector fe0f. Each tarball is checked against a pinned SHA-256, and its members
are read by name in memory, never unpacked to disk. SVG is drawn by resvg (the extra `build`).
"""

import hashlib
import io
import json
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIZE = 64
SKIN_TONES = set("\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff")


def normal_code(code):
    """'0023-FE0F-20E3' -> '23-20e3': the key that joins every package."""
    parts = (part.lstrip("0") for part in re.split("[-_ ]", code.lower()))
    return "-".join(part for part in parts if part != "fe0f")


def fetch(package, folder):
    """Path of the package's tarball in `folder`, fetched through the npm client unless it lies there.

    Raises ValueError when npm fails or when the tarball is not, byte for byte, the one that was pinned.
    """
    path = Path(folder) / package.tarball
    if not path.exists():
        if shutil.which("npm") is None:
            raise ValueError("npm is not installed; install Node.js, or give --tarballs a folder of the packages")
        command = ["npm", "pack", "--silent", f"{package.name}@{package.version}"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode or not path.exists():
            raise ValueError(f"{' '.join(command)} failed: {done.stderr.strip()[-400:] or 'it wrote no tarball'}")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != package.sha256:
        raise ValueError(f"{path} has SHA-256 {found}, not the pinned {package.sha256}; delete it and fetch it again")
    return path


def read_members(tarball, wanted):
    """{name: bytes} of the regular files of a tarball for which wanted(name) is true."""
    with tarfile.open(tarball) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar if m.isfile() and wanted(m.name)}


def read_style(style, folder, codes):
    """[(code, picture), ...] of what one style draws of `codes`; a picture is uint8 (SIZE, SIZE, 4)."""
    tarball = fetch(style.package, folder)
    drawn = {"png": draw_png, "svg": draw_svg, "font": draw_font}[style.kind](tarball, style.where, codes)
    return [(code, squared(image)) for code, image in drawn]


def draw_png(tarball, folder, codes):
    """(code, image) of the PNG files of a folder."""
    members = read_members(tarball, lambda name: name.startswith(folder) and name.endswith(".png"))
    files = {normal_code(name[len(folder) : -4]): data for name, data in members.items()}
    return [(code, Image.open(io.BytesIO(files[code]))) for code in codes if code in files]


def draw_svg(tarball, table, codes):
    """(code, image) of the SVG bodies in icons.json that one table of icon_codes.json gives a code."""
    try:
        import resvg_py
    except ImportError:
        raise ValueError("the builder draws SVG with resvg_py; install it: pip install resvg_py==0.5.0") from None
    icons = json.loads(read_members(tarball, lambda name: name == "package/icons.json")["package/icons.json"])
    names = {}
    for name, code in json.loads((Path(__file__).parent / "icon_codes.json").read_text())[table].items():
        names.setdefault(code, []).append(name)
    drawn = []
    for code, name in [(c, name) for c in codes for name in names.get(c, [])]:
        icon = icons["icons"][name]
        width, height = (icon.get(side, icons.get(side, 16)) for side in ("width", "height"))
        svg = (
            f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{icon.get("left", 0)} {icon.get("top", 0)} {width} {height}">{icon["body"]}</svg>'
        )
        png = resvg_py.svg_to_bytes(svg_string=svg, width=SIZE, height=SIZE, skip_system_fonts=True)
        drawn.append((code, Image.open(io.BytesIO(bytes(png)))))
    return drawn


def draw_font(tarball, member, codes):
    """(code, image) of the glyphs of a font, black on nothing. A sequence must join into one glyph.

    The line drawing knows no skin tone and often no gender: a glyph is given to the first, the most
    general, of the codes that it stands for.
    """
    data = read_members(tarball, lambda name: name == member)[member]
    font = ImageFont.truetype(io.BytesIO(data), SIZE * 3 // 4, layout_engine=ImageFont.Layout.RAQM)
    one_glyph = font.getlength("\U0001f600")
    seen, drawn = {bytes(font.getmask("\U0010ffff"))}, []
    for code in codes:
        text = "".join(chr(int(part, 16)) for part in code.split("-"))
        glyph = bytes(font.getmask(text))
        if font.getlength(text) == one_glyph and glyph not in seen and not SKIN_TONES & set(text):
            seen.add(glyph)
            image = Image.new("RGBA", (SIZE, SIZE))
            ImageDraw.Draw(image).text((SIZE / 2, SIZE / 2), text, font=font, anchor="mm", fill="black")
            drawn.append((code, image))
    return drawn


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
