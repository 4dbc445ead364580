"""A user's own pictures: both layouts, every format, and one clear sentence for all that can be wrong."""

import io

import numpy as np
import pytest
from PIL import Image

from miniclip.data import folder_data, load, load_data
from miniclip.data.folder import group_by_caption, read_captions, read_picture


def save(path, colour=(200, 30, 30), size=(20, 20), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, **options)


def captioned(folder, rows, header="image,caption", files=None, encoding="utf-8"):
    """A folder with captions.csv of these lines, and the pictures they name."""
    for k, name in enumerate(files if files is not None else sorted({row.split(",")[0] for row in rows})):
        save(folder / name, (k * 20 % 256, 100, 50))
    (folder / "captions.csv").write_bytes("\n".join([header, *rows, ""]).encode(encoding))
    return folder


@pytest.fixture
def classes(tmp_path):
    for k, name in enumerate(["tabby_cat", "house-sparrow", "oak"]):
        for i in range(10):
            save(tmp_path / name / f"{i}.png", (100 * k, 10 * i, 0))
    return tmp_path


def test_captions_in_the_layout_of_flickr8k(tmp_path):
    rows = [f'Images/{k}.jpg,"A dog, number {k}"' for k in range(20)] + [f"Images/{k}.jpg,dog {k}" for k in range(20)]
    captioned(tmp_path, rows)
    (tmp_path / "captions.csv").write_text((tmp_path / "captions.csv").read_text().replace("Images/", ""))
    training, [exam] = folder_data(tmp_path, 16, seed=1)
    assert training.name == tmp_path.name and training.pictures.shape == (18, 16, 16, 4) and len(exam) == 2
    assert all(len(texts) == 2 for texts in training.captions)
    assert not set(exam.names) & {text for texts in training.captions for text in texts}
    for picture, k in zip([*training.pictures, *exam.pictures], [*training.concept, *(exam.answer + 18)]):
        text = [*(texts[0] for texts in training.captions), *exam.names][k]
        number = int(text.split()[-1])
        order = sorted(f"Images/{n}.jpg" for n in range(20)).index(f"Images/{number}.jpg")
        assert text.startswith("A dog, ") and abs(int(picture[8, 8, 0]) - order * 20 % 256) <= 4


def test_the_split_depends_on_the_seed_alone(tmp_path):
    captioned(tmp_path, [f"{k}.png,thing {k}" for k in range(30)])
    names = [folder_data(tmp_path, 8, seed)[1][0].names for seed in (0, 0, 1)]
    assert names[0] == names[1] != names[2]
    training, exams = folder_data(tmp_path, 8, validation=0)
    assert len(training) == 30 and exams == []


def test_byte_order_mark_quotes_and_any_case_of_the_header(tmp_path):
    captioned(tmp_path, ['a.png,"a ""red"" thing, large"', "b.png,grün 🍏"], "Image,Caption", encoding="utf-8-sig")
    assert list(read_captions(tmp_path / "captions.csv").values()) == [['a "red" thing, large'], ["grün 🍏"]]


def test_a_shared_caption_never_makes_a_false_negative():
    captions_of = [["a dog", "a brown dog"], ["a cat"], ["a dog"], ["a dog", "a puppy"], ["a cat"]]
    concept, captions = group_by_caption(captions_of)
    assert concept.tolist() == [0, 1, 0, 2, 1]
    assert captions == [["a dog", "a brown dog"], ["a cat"], ["a puppy"]]


@pytest.mark.parametrize(
    "rows, header, message",
    [
        (["a.png,x", "b.png,y"], "file,caption", r"captions\.csv has no column 'image'.*file,caption"),
        (["a.png,x", "b.png,y"], "image,text", r"captions\.csv has no column 'caption'"),
        (["a.png,x", "b.png,"], "image,caption", r"line 3: the caption of 'b\.png' is empty"),
        (["a.png,x", "b.png"], "image,caption", r"line 3: the caption of 'b\.png' is empty"),
        (["a.png,x", "b.png,a dog, running"], "image,caption", r"line 3 has too many fields.*double quotes"),
        (["a.png,x"], "image,caption", r"only one thing, 'x'"),
        (["a.png,x", "b.png,x"], "image,caption", r"only one thing, 'x'"),
        ([], "image,caption", r"holds no captions"),
    ],
)
def test_a_bad_table_is_named(tmp_path, rows, header, message):
    with pytest.raises(ValueError, match=message):
        folder_data(captioned(tmp_path, rows, header), 8)


def test_a_table_of_nothing_or_of_another_encoding(tmp_path):
    (tmp_path / "captions.csv").write_bytes(b"")
    with pytest.raises(ValueError, match="no column 'image'.*empty"):
        folder_data(tmp_path, 8)
    captioned(tmp_path, ["a.png,grün"], encoding="latin-1")
    with pytest.raises(ValueError, match=r"captions\.csv is not UTF-8"):
        folder_data(tmp_path, 8)
    (tmp_path / "captions.csv").write_text("image,caption\na.png," + "x" * 200_000)
    with pytest.raises(ValueError, match=r"captions\.csv cannot be read as a table"):
        folder_data(tmp_path, 8)


def test_a_caption_for_a_picture_that_is_not_there(tmp_path):
    captioned(tmp_path, ["a.png,x", "b.png,y", "lost.png,z"], files=["a.png", "b.png"])
    with pytest.raises(FileNotFoundError, match=r"line 4: the picture 'lost\.png' is neither"):
        folder_data(tmp_path, 8)
    (tmp_path / "captions.csv").write_text("image,caption\n,a caption of nothing\n")
    with pytest.raises(ValueError, match="line 2 names no picture"):
        folder_data(tmp_path, 8)


def test_classes_are_named_by_their_folders(classes):
    (classes / "oak" / "notes.txt").write_text("not a picture")
    (classes / ".cache").mkdir()
    training, [exam] = folder_data(classes, 8)
    assert exam.names == ["house sparrow", "oak", "tabby cat"] and [t[0] for t in training.captions] == exam.names
    assert "a photo of a tabby cat" in training.captions[2]
    assert len(training) == 27 and len(exam) == 3 and sorted(exam.answer) == [0, 1, 2]
    red = {"tabby cat": 0, "house sparrow": 100, "oak": 200}
    assert all(picture[4, 4, 0] == red[exam.names[k]] for picture, k in zip(training.pictures, training.concept))
    assert all(picture[4, 4, 0] == red[exam.names[k]] for picture, k in zip(exam.pictures, exam.answer))
    together = np.concatenate([training.pictures, exam.pictures]).reshape(30, -1)
    assert len(np.unique(together, axis=0)) == 30


def test_a_class_of_one_picture_is_trained_on(classes):
    save(classes / "fern" / "only.png")
    training, [exam] = folder_data(classes, 8, validation=0.9)
    assert (training.concept == 0).sum() == 1 and 0 not in exam.answer


def test_bad_folders_are_named(tmp_path, classes):
    for bad, full, empty, message in [
        ("bare", [], [], "bare holds neither captions.csv nor"),
        ("one", ["a"], [], "one class only, 'a'"),
        ("hollow", ["a"], ["b"], "b holds no pictures"),
        ("same", ["a_b", "a-b"], [], "both be the class 'a b'"),
    ]:
        (tmp_path / "other" / bad).mkdir(parents=True)
        for name in full:
            save(tmp_path / "other" / bad / name / "x.png")
        for name in empty:
            (tmp_path / "other" / bad / name).mkdir()
        with pytest.raises(ValueError, match=message):
            folder_data(tmp_path / "other" / bad, 8)
    with pytest.raises(FileNotFoundError, match="nowhere: there is no such folder"):
        folder_data(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="is a file"):
        folder_data(classes / "oak" / "0.png")
    with pytest.raises(ValueError, match="validation is 1"):
        folder_data(classes, 8, validation=1)


def test_pictures_are_upright_resized_and_cropped_to_the_middle(tmp_path):
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, :10], wide[:, 10:20], wide[:, 20:] = [255, 0, 0], [0, 255, 0], [0, 0, 255]
    Image.fromarray(wide).save(tmp_path / "wide.png")
    middle = read_picture(tmp_path / "wide.png", 20)
    assert middle.shape == (20, 20, 4) and middle.dtype == np.uint8
    assert middle[10, 10].tolist() == [0, 255, 0, 255]
    upside = np.zeros((20, 20, 3), np.uint8)
    upside[:10] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # lies upside down
    Image.fromarray(upside).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    turned = read_picture(tmp_path / "turned.jpg", 20)
    assert turned[2, 10, 0] < 20 and turned[17, 10, 0] > 235


@pytest.mark.parametrize(
    "mode, ending",
    [
        ("1", "png"),
        ("L", "jpg"),
        ("LA", "png"),
        ("P", "gif"),
        ("RGBA", "webp"),
        ("CMYK", "jpg"),
        ("YCbCr", "tiff"),
        ("I;16", "png"),
        ("I", "tiff"),
    ],
)
def test_every_mode_becomes_rgba(tmp_path, mode, ending):
    if mode.startswith("I"):
        image = Image.fromarray(np.full((12, 12), 257 * 180, np.int32 if mode == "I" else np.uint16))
    else:
        image = Image.new("RGB", (12, 12), (180, 180, 180))
        image = image.convert(mode, dither=Image.Dither.NONE, palette=Image.Palette.ADAPTIVE)
    image.save(tmp_path / f"x.{ending}")
    picture = read_picture(tmp_path / f"x.{ending}", 8)
    assert picture.shape == (8, 8, 4) and (picture[..., 3] == 255).all()
    assert np.abs(picture[..., :3].astype(int) - (255 if mode == "1" else 180)).max() <= 4


def test_transparency_is_kept(tmp_path):
    image = Image.new("RGBA", (8, 8), (10, 20, 30, 0))
    image.save(tmp_path / "x.png")
    assert (read_picture(tmp_path / "x.png", 8)[..., 3] == 0).all()


@pytest.mark.parametrize("ending", ["png", "jpg", "gif", "webp", "tiff", "bmp"])
def test_a_truncated_picture_is_named(classes, ending):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    whole = io.BytesIO()
    Image.fromarray(noise).save(whole, {"jpg": "jpeg"}.get(ending, ending))
    for length in (0, 3, len(whole.getvalue()) // 2):
        (classes / "oak" / f"broken.{ending}").write_bytes(whole.getvalue()[:length])
        with pytest.raises(ValueError, match=rf"oak.broken\.{ending} is not a picture that can be read"):
            folder_data(classes, 8)


def test_what_is_no_picture_is_named(classes):
    (classes / "oak" / "page.jpg").write_text("<html>404</html>")
    with pytest.raises(ValueError, match=r"page\.jpg is not a picture that can be read"):
        folder_data(classes, 8)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("limit", [600, 420])  # above it Pillow warns, above twice that it raises
def test_a_decompression_bomb_is_named(classes, monkeypatch, limit):
    save(classes / "oak" / "bomb.png", size=(30, 30))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(ValueError, match=r"bomb\.png is too large a picture to open safely"):
        folder_data(classes, 8)


def test_load_data_knows_its_sources(classes, monkeypatch):
    training, exams = load_data(str(classes), size=8)
    assert training.pictures.shape == (27, 8, 8, 4) and len(exams) == 1
    monkeypatch.setattr(load, "shapes_data", lambda size, seed: (size, seed))
    assert load_data("shapes", seed=3) == (32, 3) and load_data("shapes", 16) == (16, 0)
    with pytest.raises(ValueError, match="no data source 'emojis': choose emoji, shapes, or the path of a folder"):
        load_data("emojis")
    with pytest.raises(ValueError, match="hold_out_style 'noto' is an emoji style; 'shapes' has none"):
        load_data("shapes", hold_out_style="noto")
