"""Read the artists' packages: fetch them through their registry's client, check them, and read their files.

Each package is checked against a pinned SHA-256, and its members are read by name in memory, never unpacked
to disk. Pictures and names are joined on their code points: lower-case hexadecimal without leading zeros and
without the variation selector fe0f.
"""

import hashlib
import io
import re
import shutil
import subprocess
import tarfile
from pathlib import Path


def normal_code(code):
    """'0023-FE0F-20E3' -> '23-20e3': the key that joins every package."""
    parts = (part.lstrip("0") for part in re.split("[-_ ]", code.lower()))
    return "-".join(part for part in parts if part != "fe0f")


def fetch(package, folder):
    """Path of the package's file in `folder`, fetched through its registry's client unless it lies there.

    Raises ValueError when the client fails or when the file is not, byte for byte, the one that was pinned.
    """
    path = Path(folder) / package.file
    if not path.exists():
        client = package.command[0]
        if shutil.which(client) is None:
            raise ValueError(f"{client} is not installed; install it, or give --tarballs a folder with {path.name}")
        done = subprocess.run(package.command, cwd=folder, capture_output=True, text=True)
        if done.returncode or not path.exists():
            said = done.stderr.strip()[-400:] or "it wrote no file"
            raise ValueError(f"{' '.join(package.command)} failed: {said}")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != package.sha256:
        raise ValueError(f"{path} has SHA-256 {found}, not the pinned {package.sha256}; delete it and fetch it again")
    return path


def read_members(package_file, wanted):
    """{name: bytes} of the regular files of a package, npm's .tgz or Debian's .deb, for which wanted(name) is true."""
    data = Path(package_file).read_bytes()
    if data.startswith(b"!<arch>"):
        data = data_of_deb(data)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar if m.isfile() and wanted(m.name)}


def data_of_deb(data):
    """The bytes of the tar file in a .deb: an ar archive, each member behind a header of 60 bytes, on even places."""
    at = 8
    while at + 60 <= len(data):
        name, size = data[at : at + 16], int(data[at + 48 : at + 58])
        if name.startswith(b"data.tar"):
            return data[at + 60 : at + 60 + size]
        at += 60 + size + size % 2
    raise ValueError("the .deb holds no data.tar; delete it and fetch it again")
