"""The course as a site, with Sphinx, from the root of the repository:

    sphinx-build -W --keep-going -n -c notebooks/site notebooks build/site

The reading editions, as they were committed: nothing is executed. The pages for the teacher. And the files of the
library that a notebook speaks of, each on a page of its own.
"""

import re
import shutil
from functools import cache
from pathlib import Path

import imagesize
from docutils import nodes
from sphinx.addnodes import download_reference, pending_xref

NOTEBOOKS = Path(__file__).resolve().parents[1]
ROOT = NOTEBOOKS.parent
COURSE = sorted(path.stem for path in NOTEBOOKS.glob("source/[0-9]*.py"))
TEACHING = sorted(
    (path.stem for path in NOTEBOOKS.glob("teaching/*[a-z].md")), key=lambda name: (name[0] in "01", name)
)

project = author = "Write CLIP yourself"
html_title = project
extensions = ["myst_nb"]
root_doc = "README"
include_patterns = ["README.md", "teaching/*.md", *(f"{name}.ipynb" for name in COURSE)]
html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = html_show_copyright = html_use_index = False
nb_execution_mode = "off"
nb_code_prompt_show, nb_code_prompt_hide = "Show the code", "Hide the code"
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

CONTENTS = {  # of the site; in the pages themselves it would be odd where they are read in a repository
    "README": {"The notebooks": COURSE, "For teachers": ["teaching/README"]},
    "teaching/README": {"Pages": [f"teaching/{name}" for name in TEACHING]},
}
WIDE = 650  # pixels
LINK = re.compile(r"\]\((?:\.\./)+(miniclip/[\w/.]+?)/?\)")


@cache
def code_files():
    """{path in the repository: file} of what the notebooks link to; of a folder, its door."""
    masters = [(NOTEBOOKS / "source" / f"{name}.py").read_text("utf-8") for name in COURSE]
    found = {ROOT / path for text in masters for path in LINK.findall(text)}
    return {path: path / "__init__.py" if path.is_dir() else path for path in sorted(found)}


def code_page(file):
    """The name of the page that shows a file."""
    return f"code/{file.relative_to(ROOT).with_suffix('').as_posix()}"


def add_contents(app, docname, source):
    """Write the table of contents below the text of a page."""
    for caption, names in CONTENTS.get(docname, {}).items():
        made = "\n".join(f"/{name}" for name in names if name in app.env.found_docs)
        source[0] += f"\n\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{made}\n```\n"


def mend_links(app, doctree):
    """Links to what is no page: a file of the library is shown, an exercise edition is downloaded, no other file is."""
    docname, files = app.env.docname, code_files()
    for link in list(doctree.findall(lambda node: isinstance(node, (pending_xref, download_reference)))):
        target = Path(app.env.relfn2path(link["reftarget"], docname)[1]).resolve()
        notebook = app.srcdir / f"{link['reftarget']}.ipynb"
        if target in files:
            address = app.builder.get_relative_uri(docname, code_page(files[target]))
            link.replace_self(nodes.reference("", "", *link.children, refuri=address, internal=True))
        elif link["reftarget"] not in app.env.found_docs and notebook.is_file():
            address = f"/{link['reftarget']}.ipynb"
            link.replace_self(download_reference("", "", *link.children, reftarget=address, refdoc=docname))
        elif isinstance(link, download_reference):
            link.replace_self(link.children)


def mark_wide_figures(app, doctree):
    """On a narrow screen a wide figure is scrolled, and any other shrinks to fit."""
    for image in doctree.findall(nodes.image):
        width, _ = imagesize.get(app.srcdir / image["uri"].lstrip("/"))
        image["classes"] += ["wide"] if width > WIDE else []


def show_code(app):
    """Pages of the library's files, as Sphinx wants them: name, context, template."""
    for file in dict.fromkeys(code_files().values()):
        title = file.relative_to(ROOT).as_posix()
        code = app.builder.highlighter.highlight_block(file.read_text("utf-8"), "python")
        yield code_page(file), {"title": title, "body": f"<h1>{title}</h1>{code}"}, "page.html"


def copy_index(app, error):
    """The first page, also under the name that a server looks for."""
    if error is None and app.builder.format == "html":
        shutil.copy(Path(app.outdir) / "README.html", Path(app.outdir) / "index.html")


def setup(app):
    app.connect("env-get-outdated", lambda *_: list(CONTENTS))  # they change when a page is added
    app.connect("source-read", add_contents)
    app.connect("doctree-read", mend_links, priority=100)  # before Sphinx collects what is downloaded
    app.connect("doctree-read", mark_wide_figures)
    app.connect("html-collect-pages", show_code)
    app.connect("build-finished", copy_index)
