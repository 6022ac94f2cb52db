import csv
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.image
import pytest

from regard.runs.compare.report.page import render_comparison, write_comparison
from regard.runs.compare.results import Comparison, Estimate, Said
from runs.compare.report.example_results import example_comparison

SECTIONS = ["setting", "verdict", "length", "curves", "speed", "reach", "sentences", "probes", "notes", "data"]
NASTY = "</script><img src=x onerror=alert(1)>\"' & \u202eevil\u200f @DATA@ @CONTENT@ #0072b2"
VOID = {"meta", "br", "img", "input", "hr", "link"}


class Reader(HTMLParser):
    """Reads a page, and refuses tags that do not match."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def values(self, attribute: str) -> list[str]:
        return [str(attributes[attribute]) for _, attributes in self.tags if attribute in attributes]

    @property
    def sections(self) -> list[str]:
        return [str(attributes.get("id")) for tag, attributes in self.tags if tag == "section"]


def data_of(page: str) -> object:
    match = re.search(r'<script type="application/json" id="comparison">(.*?)</script>', page, re.DOTALL)
    assert match is not None
    return json.loads(match[1])


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Comparison, Path, list[Path]]:
    comparison = example_comparison(seeds=3)
    folder = tmp_path_factory.mktemp("comparison") / "out"
    return comparison, folder, write_comparison(comparison, folder)


@pytest.fixture(scope="module")
def page(written: tuple[Comparison, Path, list[Path]]) -> str:
    return written[2][0].read_text("utf-8")


def test_all_files_are_there_and_nothing_else(written: tuple[Comparison, Path, list[Path]]) -> None:
    comparison, folder, paths = written
    assert sorted(paths) == sorted(p for p in folder.rglob("*") if p.is_file())
    assert paths[0].name == "comparison.html" and len(paths) == 2 + 9 + 16
    assert paths[0].stat().st_size < 3_000_000
    for path in paths:
        if path.suffix == ".png":
            height, width = matplotlib.image.imread(path).shape[:2]
            assert height > 300 and width > 800
    assert json.loads((folder / "comparison.json").read_text("utf-8")) == comparison.to_json()
    with open(folder / "speed.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    speeds = [s for model in comparison.models for s in model.speed]
    assert [float(row["decoding_us_per_token"]) for row in rows] == [s.decoding for s in speeds]


def test_the_page_has_all_parts_in_order(page: str) -> None:
    reader = Reader(page)
    assert reader.sections == SECTIONS
    identities = reader.values("id")
    assert len(identities) == len(set(identities))
    referred = {value for attribute in ("href",) for value in reader.values(attribute) if value.startswith("#")}
    referred |= {f"#{value}" for value in reader.values("aria-labelledby")}
    referred |= set(re.findall(r"url\((#[^)]*)\)", page))
    assert referred <= {f"#{identity}" for identity in identities}


def test_the_page_loads_nothing_and_its_links_lead_to_its_files(
    written: tuple[Comparison, Path, list[Path]], page: str
) -> None:
    reader = Reader(page)
    assert not re.findall(r"https?://|//[a-z]+\.", page)
    assert not reader.values("src") and not re.search(r"@import|url\((?!data:font/woff|#)", page)
    assert "default-src 'none'" in page
    links = {link for link in reader.values("href") if not link.startswith("#")}
    assert links == {str(path.relative_to(written[1])) for path in written[2][1:]}


def test_everything_can_be_read_without_script_and_without_eyes(page: str) -> None:
    reader = Reader(page)
    pictures = [attributes for tag, attributes in reader.tags if tag == "svg" and "aria-hidden" not in attributes]
    assert len(pictures) == 2 + 2 + 4 + 4 + 2 + 2 + 1 + 3
    assert all(picture["role"] == "img" and len(str(picture["aria-label"])) > 20 for picture in pictures)
    kinds = [tag for tag, _ in reader.tags]
    maps = [attributes for _, attributes in reader.tags if "map" in str(attributes.get("class", "")).split()]
    assert kinds.count("caption") == kinds.count("table") and len(maps) == 4 * 3
    focusable = [attributes for _, attributes in reader.tags if "tabindex" in attributes]
    assert len(focusable) == kinds.count("table")
    assert all(entry["tabindex"] == "0" and len(str(entry["aria-label"])) > 8 for entry in focusable)
    assert '<th scope="col"></th>' not in page
    assert kinds.count("script") == 2


def test_the_verdict_gives_figures_seeds_and_intervals(written: tuple[Comparison, Path, list[Path]], page: str) -> None:
    runs = written[0].models[3].runs
    mean = sum(run.at_tokens.bleu.value for run in runs) / 3
    low = min(run.at_tokens.bleu.low or 0 for run in runs)
    high = max(run.at_tokens.bleu.high or 0 for run in runs)
    table = page[page.index('class="big"') :]
    table = table[: table.index("</table>")]
    assert f">{mean:.1f} " in table and f"[{low:.1f} – {high:.1f}]" in table
    assert "seeds " in table and "not reached" in table and "not apart" in table
    assert '<span class="soft">no attention</span>' in table and ">best<" in table
    assert '<th scope="row">Judged at step</th><td>1\u202f290</td>' in table


def test_sentences_stand_beside_their_maps(page: str) -> None:
    assert page.count('<article class="sentence"') == 4
    assert '<dd lang="zh-Hans" dir="auto">火车 星期二 六点半 出发 。</dd>' in page
    assert page.count("no attention</p>") == 4
    assert "@font-face" in page and "url(data:font/woff;base64," in page


def test_one_model_ahead_is_said_so_and_overlap_is_no_win() -> None:
    comparison = example_comparison(probes=False, sentences=False, complete=False)
    apart = render_comparison(replace(comparison, models=(comparison.models[0], comparison.models[3])))
    assert re.search(r"<b><bdi dir=\"auto\">Transformer</bdi></b> \([\d.]+\) has the highest BLEU, apart", apart)
    even = render_comparison(replace(comparison, models=comparison.models[2:]))
    assert "no model is ahead in BLEU" in even and "has the highest BLEU" not in even
    assert '<ul class="verdict">' not in render_comparison(replace(comparison, models=comparison.models[:1]))
    assert Reader(even).sections == ["setting", "verdict", "length", "curves", "speed", "reach", "notes", "data"]


def test_one_run_without_an_interval_is_not_called_best() -> None:
    comparison = example_comparison(probes=False, sentences=False)
    table = render_comparison(comparison)
    table = table[table.index('class="big"') :]
    table = table[: table.index("</table>")]
    rows = {match[1]: match[2] for match in re.finditer(r'<th scope="row">([^<]*)</th>(.*?)</tr>', table)}
    assert "mark" not in rows["Loss of the references"] + rows["Alignment error rate"] + rows["Exactly right"]
    assert "mark level" in rows["BLEU"] and ">fastest<" in rows["Target tokens a second, training"]
    assert ">lowest<" in rows["Peak memory, training"] and "mark best" not in rows["Peak memory, training"]
    models = tuple(
        replace(m, runs=tuple(replace(r, at_tokens=replace(r.at_tokens, bleu=Estimate(30.0 + k))) for r in m.runs))
        for k, m in enumerate(comparison.models)
    )
    without = render_comparison(replace(comparison, models=models))
    assert "BLEU without intervals, so that none is called the best" in without


def test_probes_show_their_intervals(page: str) -> None:
    part = page[page.index('<section id="probes"') :]
    assert re.search(r"<small>seeds [\d.]+ – [\d.]+</small><small>\[[\d.]+ – [\d.]+\]</small>", part)
    with_one = render_comparison(example_comparison(models=False))
    at = example_comparison(models=False).probes[0].runs[0].lengths[2]
    assert f"{at.exact:.1f} <small>[{at.exact_low:.1f} – {at.exact_high:.1f}]</small>" in with_one


def test_probes_only() -> None:
    comparison = replace(example_comparison(models=False), notes=(), setting={})
    page = render_comparison(comparison)
    assert Reader(page).sections == ["probes", "data"]
    assert 'href="probes.csv"' in page and 'href="models.csv"' not in page and "@font-face" not in page
    nothing = render_comparison(replace(comparison, probes=()))
    assert Reader(nothing).sections == ["data"] and "@" not in re.sub(r"@media|@font-face", "", nothing)


def test_hostile_text_stays_text() -> None:
    comparison = example_comparison(probes=False, complete=False)
    model = replace(comparison.models[0], label=NASTY, words=NASTY)
    said = Said(NASTY, NASTY, (NASTY, ""), ((0.5, 1.5), (float("nan"), 0.0)))
    sentence = replace(comparison.sentences[0], source=NASTY, words=(NASTY, "b"), reference="", said=(said,))
    comparison = replace(
        comparison, title=NASTY, setting={NASTY: NASTY}, models=(model,), sentences=(sentence,), notes=(NASTY,)
    )
    page = render_comparison(comparison)
    reader = Reader(page)
    assert {tag for tag, _ in reader.tags}.isdisjoint({"img", "iframe", "object"})
    assert page.count("<script") == page.count("</script>") == 2
    assert not [name for _, attributes in reader.tags for name in attributes if name.startswith("on")]
    assert "\u202e" not in page[: page.index('id="comparison"')] and '"</' not in page
    shown = NASTY.replace("\u202e", "").replace("\u200f", "")
    assert sum(text.strip() == shown for text in reader.texts) >= 8
    assert data_of(page) == comparison.to_json()


def test_what_is_not_finite_does_not_cost_the_comparison(tmp_path: Path) -> None:
    comparison = example_comparison(probes=False, sentences=False, complete=False)
    run = comparison.models[0].runs[0]
    judged = replace(run.at_tokens, loss=float("nan"))
    run = replace(run, largest_gradient=float("inf"), at_tokens=judged)
    comparison = replace(comparison, models=(replace(comparison.models[0], runs=(run,)),))
    (tmp_path / "probes.csv").write_text("of an earlier comparison")
    (tmp_path / "own.csv").write_text("of somebody else")
    paths = write_comparison(comparison, tmp_path)
    data = json.loads((tmp_path / "comparison.json").read_text("utf-8"))
    assert data["models"][0]["runs"][0]["largest_gradient"] is None
    page = paths[0].read_text("utf-8")
    assert "∞" in page and "not a number" in page
    assert not (tmp_path / "probes.csv").exists() and (tmp_path / "own.csv").exists()
