"""The manual: it builds without a warning, asks nothing of the network, and the front page is one."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    pytest.importorskip("mkdocs", reason="the extra `docs` is not installed")
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]  # --quiet hides warnings
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.seconds
def test_every_page_is_there(site):
    assert {page.with_suffix(".html").name for page in PAGES} <= {page.name for page in site.glob("*.html")}


@pytest.mark.seconds
def test_the_site_asks_nothing_of_the_network(site):
    tags = r"<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//[^\"'> ]+"
    foreign = re.compile(tags)
    found = [f"{page.name}: {tag[0]}" for page in site.rglob("*.html") for tag in foreign.finditer(page.read_text())]
    assert not found


def test_the_front_page_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES], ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_every_measured_figure_can_be_measured_again():
    """With its date, the commit, and the command."""
    _, *sections = re.split(r"^## ", (ROOT / "docs" / "measured.md").read_text(), flags=re.MULTILINE)
    for section in sections:
        title = section.splitlines()[0]
        assert re.search(r"`(python|optimum-cli|pytest) [^`]+`", section), title
        held = "held at every commit" in title
        assert held or re.search(r"\d{4}-\d{2}-\d{2}, at [0-9a-f]{7}:", section), title


def test_the_manual_has_a_line_for_every_room():
    told = set(re.findall(r"^\| `(\w+)/` \|", (ROOT / "docs" / "architecture.md").read_text(), re.MULTILINE))
    package = ROOT / "optimum_pixart_neuron"
    assert told == {path.parent.name for path in package.glob("*/__init__.py")}
