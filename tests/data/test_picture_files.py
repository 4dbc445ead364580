"""One reader of picture files: every mode by its rule, upright, whatever its proportions; and what it is known by."""

import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from miniclip.data import open_picture
from miniclip.data.pictures import content, endings, is_held_out, read_picture, read_pictures
from miniclip.preprocess import CLIP_PREPROCESS, as_pil, preprocess, upright


def turned():
    """The EXIF data of a camera that was turned by a quarter; to save them may change them."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def need(ending):
    if f".{ending}" not in endings():
        pytest.skip(f"this Pillow reads no {ending}")


def test_pictures_are_upright_resized_and_cropped_to_the_middle(tmp_path):
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, :10], wide[:, 10:20], wide[:, 20:] = [255, 0, 0], [0, 255, 0], [0, 0, 255]
    Image.fromarray(wide).save(tmp_path / "wide.png")
    middle, _ = read_picture(tmp_path / "wide.png", 20)
    assert middle.shape == (20, 20, 4) and middle.dtype == np.uint8
    assert middle[10, 10].tolist() == [0, 255, 0, 255]


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tiff"])
def test_exif_turns_a_picture_wherever_it_is_read(tmp_path, rng, ending):
    photo = Image.fromarray(rng.integers(0, 256, (6, 5, 3), np.uint8)).resize((50, 40), Image.Resampling.BICUBIC)
    file = tmp_path / f"turned.{ending}"
    photo.save(file, exif=turned(), **({"lossless": True} if ending == "webp" else {}))
    photo.save(tmp_path / f"plain.{ending}", **({"lossless": True} if ending == "webp" else {}))
    expected = np.asarray(as_pil(Image.open(tmp_path / f"plain.{ending}")).transpose(Image.Transpose.ROTATE_270))
    assert expected.shape == (50, 40, 3)
    opened, converted = Image.open(file), Image.open(file).convert("RGB")
    for picture in (open_picture(file), open_picture(str(file)), as_pil(opened), as_pil(opened), as_pil(converted)):
        assert (np.asarray(picture) == expected).all()
    assert (np.asarray(open_picture(io.BytesIO(file.read_bytes()))) == expected).all()
    config = {"vision_cfg": {"image_size": 32}, "preprocess": CLIP_PREPROCESS | {"mean": [0] * 3, "std": [1] * 3}}
    trained, _ = read_picture(file, 32)
    assert (preprocess([opened], config)[0].transpose(1, 2, 0) * 255 == trained[..., :3]).all()


@pytest.mark.parametrize(
    "mode, ending",
    [("1", "png"), ("L", "jpg"), ("LA", "png"), ("P", "gif"), ("RGBA", "webp"), ("CMYK", "jpg"), ("YCbCr", "tiff"),
     ("LAB", "tiff"), ("RGB", "avif"), ("RGB", "jp2")],
)  # fmt: skip
def test_every_mode_becomes_rgba(tmp_path, mode, ending):
    need(ending)
    image = Image.new("RGB", (16, 16), (180, 180, 180))
    if mode != "LAB":
        image = image.convert(mode, dither=Image.Dither.NONE, palette=Image.Palette.ADAPTIVE)
    else:
        image = Image.new("LAB", (16, 16), (187, 128, 128))
    image.save(tmp_path / f"x.{ending}", **({"compression": "tiff_lzw"} if mode == "YCbCr" else {}))
    picture, _ = read_picture(tmp_path / f"x.{ending}", 8)
    assert picture.shape == (8, 8, 4) and (picture[..., 3] == 255).all()
    assert np.abs(picture[..., :3].astype(int) - (255 if mode == "1" else 180)).max() <= 6


SHADES = np.arange(64).reshape(8, 8) * 4 + 3  # 3..255, as 8 bits would have them


@pytest.mark.parametrize(
    "pixels, ending",
    [
        (SHADES.astype(np.uint16), "png"),
        (SHADES.astype(np.uint16), "tiff"),
        ((SHADES * 257).astype(np.uint16), "png"),
        ((SHADES * 257).astype(np.int32), "tiff"),
        (np.round(SHADES * (4095 / 255)).astype(np.uint16), "png"),
        (np.round(SHADES * (4095 / 255)).astype(">u2"), "tiff"),
        (SHADES.astype(np.float32), "tiff"),
        ((SHADES / 255).astype(np.float32), "tiff"),
        ((SHADES * 257).astype(np.float32), "tiff"),
    ],
)
def test_wide_numbers_are_grey(tmp_path, pixels, ending):
    Image.fromarray(pixels).save(tmp_path / f"x.{ending}")
    grey = np.asarray(open_picture(tmp_path / f"x.{ending}"))
    assert (grey == SHADES[..., None]).all()
    assert (np.asarray(as_pil(Image.fromarray(pixels))) == grey).all()


def png_of_16_bits(pixels):
    """A PNG of colours (H, W, 3) of 16 bits, which Pillow does not write."""

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return io.BytesIO(b"\x89PNG\r\n\x1a\n" + body)


def test_colours_of_16_bits():
    colours = np.stack([SHADES, SHADES[::-1], SHADES.T], -1)
    assert (np.asarray(open_picture(png_of_16_bits(colours * 257))) == colours).all()
    for small in (colours, colours * 16):  # of 8 and 12 bits: Pillow reads the upper 8 alone
        with pytest.raises(ValueError, match="colours of 16 bits end below 4096, nearly black; save it with 8 bits"):
            open_picture(png_of_16_bits(small))


def test_transparency_is_kept(tmp_path):
    Image.new("RGBA", (8, 8), (10, 20, 30, 0)).save(tmp_path / "x.png")
    assert (read_picture(tmp_path / "x.png", 8)[0][..., 3] == 0).all()
    grey = Image.fromarray(SHADES.astype(np.uint16))
    grey.info["transparency"] = 7  # as a PNG of 16 bits may say
    assert (np.asarray(upright(grey))[..., 3] == np.where(SHADES == 7, 0, 255)).all()
    assert np.asarray(as_pil(grey))[0, :2].tolist() == [[3, 3, 3], [255, 255, 255]]


# ------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize("ending", ["png", "jpg", "gif", "webp", "tiff", "bmp"])
def test_a_truncated_picture_is_named(tmp_path, rng, ending):
    whole = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(whole, {"jpg": "jpeg"}.get(ending, ending))
    for length in (0, 3, len(whole.getvalue()) // 2):
        (tmp_path / f"broken.{ending}").write_bytes(whole.getvalue()[:length])
        with pytest.raises(ValueError, match=rf"broken\.{ending} is no picture that can be read"):
            open_picture(tmp_path / f"broken.{ending}")


def test_what_is_no_picture_is_named(tmp_path):
    (tmp_path / "page.jpg").write_text("<html>404</html>")
    with pytest.raises(ValueError, match=r"page\.jpg is no picture that can be read: Pillow knows no such format"):
        open_picture(tmp_path / "page.jpg")
    (tmp_path / "program.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n")
    for name, why in (("program.eps", "no such format"), ("lost.png", "No such file"), ("", "is no file")):
        with pytest.raises(ValueError, match=why):
            open_picture(tmp_path / name)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("limit", [600, 420])  # above it Pillow warns, above twice that it raises
def test_a_decompression_bomb_is_named(tmp_path, monkeypatch, limit):
    Image.new("RGB", (30, 30)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(ValueError, match=r"bomb\.png is .*too large .*to open safely"):
        open_picture(tmp_path / "bomb.png")


PEAK = """
import sys
from PIL import Image
from miniclip.preprocess import CLIP_PREPROCESS, preprocess
peak = lambda: int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1024
before = peak()
try:
    preprocess([Image.open(sys.argv[1])], {"vision_cfg": {"image_size": 224}, "preprocess": CLIP_PREPROCESS})
except ValueError as error:
    assert "too large to open safely" in str(error), error
print(peak() - before)
"""
LARGE = {  # just within what is opened, or far beyond
    "thin.png": ("L", (1, 150_000), {}),
    "thread.png": ("L", (16_000_000, 1), {}),
    "beyond.png": ("L", (85_000_000, 1), {}),
    "square.png": ("RGBA", (4096, 4096), {"exif": turned()}),
    "square.jpg": ("CMYK", (4096, 4096), {"exif": turned(), "progressive": True}),
    "square.tiff": ("F", (4096, 4096), {"compression": "tiff_deflate"}),
    "square.webp": ("RGBA", (3200, 3200), {"exif": turned(), "lossless": True}),
    "square.avif": ("RGBA", (3600, 3600), {"exif": turned()}),
    "square.jp2": ("RGBA", (2900, 2900), {}),
    "beyond.webp": ("RGB", (9000, 9000), {"lossless": True}),
}


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak is read from /proc")
@pytest.mark.parametrize("name", LARGE)
def test_no_small_file_takes_much_memory(tmp_path, name):
    need(name.split(".")[1])
    mode, size, options = LARGE[name]
    Image.new(mode, size).save(tmp_path / name, **options)
    assert (tmp_path / name).stat().st_size < 1_000_000
    done = subprocess.run([sys.executable, "-c", PEAK, tmp_path / name], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 230  # MB, beside the 70 MB of a program with a model


def test_a_tile_larger_than_its_picture(tmp_path):
    """A TIFF of 32 × 32 pixels in one tile of 16,000 × 16,000; zeros take little space."""
    tags = {256: 32, 257: 32, 258: 8, 259: 8, 262: 1, 277: 1, 322: 16_000, 323: 16_000, 324: 8, 325: 4}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    (tmp_path / "x.tif").write_bytes(b"II*\0\x0c\0\0\0\0\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4))
    with pytest.raises(ValueError, match="16000 × 16000 pixels: too large to open safely"):
        open_picture(tmp_path / "x.tif")


# ------------------------------------------------------------------------------------------ what it is known by


def test_a_picture_is_known_by_its_pixels(tmp_path, rng):
    photo = Image.fromarray(rng.integers(0, 256, (30, 20, 3), np.uint8))
    photo.save(tmp_path / "a.png")
    photo.save(tmp_path / "b.bmp")
    photo.convert("RGBA").save(tmp_path / "c.webp", lossless=True, exif=Image.Exif())
    photo.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "d.png", exif=turned())
    other = photo.copy()
    other.putpixel((3, 4), tuple(255 - c for c in photo.getpixel((3, 4))))
    other.save(tmp_path / "e.png")
    files = [tmp_path / name for name in ("a.png", "b.bmp", "c.webp", "d.png", "e.png")]
    for size in (8, 16):
        pictures, contents = read_pictures(files, size)
        assert pictures.shape == (5, size, size, 4) and contents[0] == content(photo)
        assert len(set(contents[:4])) == 1 and contents[4] != contents[0]


def test_the_share_and_the_seed_decide_with_the_content():
    contents = [bytes([k % 256, k // 256]) * 16 for k in range(2000)]
    kept = np.array([[is_held_out(each, seed, 0.1) for each in contents] for seed in (0, 1)])
    assert (abs(kept.mean(1) - 0.1) < 0.02).all() and 0 < (kept[0] & kept[1]).sum() < 50
    more = np.array([is_held_out(each, 0, 0.3) for each in contents])
    assert (more >= kept[0]).all() and not any(is_held_out(each, 0, 0) for each in contents)
