"""Picture files and folders of them, for tests."""

from PIL import Image


def save(path, colour=(200, 30, 30), size=(20, 20), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, **options)


def many_colours(k):
    """A colour for each k, no two the same."""
    return (k * 20 % 256, 100 + k // 12, 50)


def captioned(folder, rows, header="image,caption", files=None, name="captions.csv", encoding="utf-8"):
    """A folder with a table of these lines, and the pictures that stand first in them."""
    for k, file in enumerate(files if files is not None else sorted({row.split(",")[0] for row in rows})):
        save(folder / file, many_colours(k))
    (folder / name).write_bytes("\n".join([header, *rows, ""]).encode(encoding))
    return folder
