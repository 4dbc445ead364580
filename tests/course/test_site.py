"""The course as a site: no warning, all pages, a text for each figure, and no link that leads nowhere."""

import re
import subprocess
import sys
from html import unescape
from urllib.parse import unquote

import pytest
from course.student_notebooks import EDITIONS, NOTEBOOKS, SOLVED

pytestmark = pytest.mark.slow
PAGES = [path.stem for path in SOLVED]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site, as the guide for teachers says to build it."""
    for module in ("sphinx", "myst_nb", "furo"):
        pytest.importorskip(module)
    out = tmp_path_factory.mktemp("site")
    words = "-W --keep-going -n -q".split()
    build = [sys.executable, "-m", "sphinx", *words, "-c", str(NOTEBOOKS / "site"), str(NOTEBOOKS), str(out)]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out


def test_every_page_is_there(site):
    wanted = {*PAGES, "README", "index"} | {f"teaching/{path.stem}" for path in NOTEBOOKS.glob("teaching/*.md")}
    assert wanted <= {path.relative_to(site).with_suffix("").as_posix() for path in site.rglob("*.html")}
    contents = re.findall(r'class="reference internal" href="([^"#]+)"', (site / "index.html").read_text("utf-8"))
    assert [f"{name}.html" for name in PAGES] == [name for name in contents if name[0].isdigit()][: len(PAGES)]


@pytest.mark.parametrize("name", PAGES)
def test_figures_have_a_text(site, name):
    text = (site / f"{name}.html").read_text("utf-8")
    figures = re.findall(r'<img[^>]* src="_images/[^>]*>', text)
    pngs = (NOTEBOOKS / f"{name}.ipynb").read_text("utf-8").count('"image/png": "')
    assert len(figures) == pngs > 0
    for figure in figures:
        assert len(unescape(re.search(r'alt="([^"]*)"', figure)[1])) > 60


def test_no_link_leads_nowhere(site):
    for page in site.rglob("*.html"):
        for link in re.findall(r'(?:href|src)="([^"#?]+)[^"]*"', page.read_text("utf-8")):
            if not link.startswith(("http", "data:", "mailto:")):
                assert (page.parent / unquote(unescape(link))).is_file(), f"{page.relative_to(site)}: {link}"


def test_the_exercise_editions_can_be_downloaded(site):
    assert sorted(path.name for path in site.glob("_downloads/*/*")) == [path.name for path in EDITIONS]


def test_a_file_of_the_library_is_shown(site):
    link = re.search(r'href="(code/[^"]*)"[^>]*>(?:<[^>]*>)*layers.py', (site / "03_norms.html").read_text("utf-8"))[1]
    page = re.sub("<[^>]*>", "", (site / link).read_text("utf-8"))
    assert "def layer_norm(" in page and "miniclip/layers.py" in page
