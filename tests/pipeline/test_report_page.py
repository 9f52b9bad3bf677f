"""The page and its figures, made whole and read back."""

import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from brenier.report import Finding, Picture, Table, figures, maps, write_page
from brenier.solution import Estimate

RNG = np.random.default_rng(0)
CODES, MODES = RNG.normal(size=(120, 5)), RNG.integers(0, 14, 120)
FACETS = np.stack([np.arange(50), np.arange(50) + 50], 1)
IMAGES = {
    "grey": RNG.random((40, 8, 8)),
    "bytes": RNG.integers(0, 256, (40, 28, 28), dtype=np.uint8),
    "colour last": RNG.random((40, 10, 12, 3)),
    "colour first": RNG.random((40, 4, 9, 9)),
}


def drawn(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=60)
    return np.asarray(Image.open(buffer).convert("RGB"))


@pytest.mark.parametrize("images", IMAGES.values(), ids=IMAGES)
def test_images_of_any_layout_are_drawn(images):
    paths = np.stack([images[:10], images[10:20]])
    for figure in (
        figures.samples(images),
        figures.samples(images[:3]),
        figures.pairs(images, images, ("new", "nearest"), "Pairs"),
        figures.interpolations(paths),
    ):
        assert drawn(figure).std() > 20


@pytest.mark.parametrize("dim", [1, 2, 3, 6])
def test_vectors_are_drawn_as_points(dim):
    x = RNG.normal(size=(90, dim))
    for figure in (
        figures.samples(x, x),
        figures.pairs(x, x + 0.1, ("original", "rebuilt"), "Pairs"),
        figures.interpolations(np.stack([x[:8], x[8:16]]), x),
        maps.code_map(x, x[:, 0] > 0, [[0, 1]], x + 1, x[:, 0] > 0),
    ):
        assert drawn(figure).std() > 5


def test_a_mosaic_shows_every_image_where_it_belongs():
    images = np.zeros((4, 8, 8))
    images[2] = 1
    page = figures.samples(images, columns=2).axes[0].images[0].get_array()
    assert page.shape == (17, 17, 3)
    assert page[:8].sum() == page[:8, 8].sum()  # only the gap is light in the first row
    assert page[9:, :8].min() == 1
    assert page[9:, 9:].max() == 0


def test_maps_draw_every_group_every_facet_and_what_is_redrawn():
    figure = maps.code_map(CODES, MODES, FACETS, CODES + 0.1, MODES)
    assert len(figure.axes) == 2
    assert len(figure.axes[0].collections[-1].get_segments()) == 50
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(names) == 10
    assert names[-1] == "other"
    noise = maps.noise_map(CODES[:, :2], MODES, MODES > 0)
    assert len(noise.axes[0].collections[-1].get_offsets()) == (MODES == 0).sum()
    turning = maps.interactive_map(CODES, MODES, FACETS, CODES)
    assert [trace.type for trace in turning.data] == ["scatter3d"] * 12
    assert sum(len(trace.x) for trace in turning.data[:10]) == 120


def test_training_curves_show_errors_near_zero_too():
    figure = figures.training({}, [10, 100, 1000], [0.5, 0.01, -0.001], [0.05, 0.01, 0.002], tol=0.2)
    assert len(figure.axes) == 1
    assert figure.axes[0].lines[0].get_xdata().tolist() == [10, 100]
    assert drawn(figure).std() > 5


class Reader(HTMLParser):
    """Collects what a browser would ask for, alt texts and the text outside scripts and styles."""

    def __init__(self):
        super().__init__()
        self.resources, self.alts, self.text, self.inside = [], [], [], ""

    def handle_starttag(self, tag, attrs):
        self.inside = tag
        named = dict(attrs)
        self.resources += [named[key] for key in ("src", "href", "data", "poster", "srcset") if key in named]
        if tag == "img":
            self.alts.append(named["alt"])

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside not in ("script", "style"):
            self.text.append(data)


@pytest.fixture
def page(tmp_path):
    rows = [("AE-OT", [Estimate(93.71, 1.24), None]), ("GMM <30>", [1.5, "far"])]
    table = Table("In the same codes", ["FID", "nn"], rows, ["low", "high"])
    path = write_page(
        tmp_path / "report.html",
        "Digits & <codes>",
        [Finding("nn 0.91 ± 0.02", "New codes are new.")],
        [table],
        {"Samples": Picture(figures.samples(IMAGES["grey"]), "Drawn from noise.", "A grid of noise")},
        {"seed": 0, "latent_dim": 5},
        {"chart": 75.0, "transport": 0.2},
        maps.interactive_map(CODES, MODES),
        "1,797 images",
    )
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    return path.read_text(encoding="utf-8")


def test_the_page_asks_the_network_for_nothing(page):
    reader = Reader()
    reader.feed(page)
    assert all(resource.startswith("data:image/png;base64,") for resource in reader.resources)
    assert len(reader.resources) == 1
    assert "default-src 'none'" in page
    assert not re.search(r"@import|url\(\s*[\"']?http|<link|<iframe", page.partition("</style>")[0])
    assert "cdn.plot.ly" not in "".join(re.findall(r"<script[^>]*>", page))


def test_the_page_says_what_it_was_given(page):
    reader = Reader()
    reader.feed(page)
    text = " ".join(" ".join(reader.text).split())
    given = ["Digits & <codes>", "nn 0.91 ± 0.02", "New codes are new.", "93.7 ± 1.2", "–", "GMM <30>", "1 min 15 s"]
    for part in given:
        assert part in text
    assert reader.alts == ["A grid of noise"]
    assert text.index("New codes are new.") < text.index("93.7 ± 1.2") < text.index("latent_dim")


def test_a_page_without_a_map_is_small_and_replaces_the_last_one(tmp_path):
    for title in ("first", "second"):
        path = write_page(tmp_path / "r.html", title, [], [], {}, {}, {})
    assert "<title>second</title>" in path.read_text()
    assert path.stat().st_size < 20_000
    assert [file.name for file in tmp_path.iterdir()] == ["r.html"]
