"""Laws of what is drawn and written: escaped, bounded, standing alone, telling the truth."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree  # noqa: ICN001 - its name says what it is

import pytest

import nbbatch as nb
from nbbatch.base.states import STACKED, ChunkStatus, InstanceStatus
from nbbatch.panel.attempt_sums import Timeline
from nbbatch.pictures import chain_picture, layout, static, style, timeline
from nbbatch.pictures.picture import Picture
from tests.jobs import drop, each, numbers, one_step, summing
from tests.kit import HandClock

HOSTILE = [
    "<script>alert(1)</script>",
    "\u202egnp.exe\u2066",
    "]]>&amp;\x00\ud800",
    '" onload="x',
    "سلام",
    "x" * 1_000_000,
]
VOID = {"br", "hr", "img"}
SVG = "{http://www.w3.org/2000/svg}"


class Balance(HTMLParser):
    """Open elements, and every name and attribute that was seen."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(page)
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@nb.step
def floats_and_texts(i: int) -> float | str:
    return float(i) if i % 2 else str(i)


@nb.step
def of_float(value: float) -> int:
    return int(value)


@nb.step
def of_text(value: str) -> int:
    return int(value)


@nb.step(gate=True)
def gated(value: int) -> int:
    return value


@nb.step
def summed(values: Iterable[int]) -> int:
    return sum(values)


def branching() -> nb.Job[int, int]:
    return nb.Job("branching", numbers >> floats_and_texts >> (of_float | of_text) >> gated >> summed)


def pictures(run: nb.JobHandle[Any]) -> list[Picture]:
    return [run.chain(), run.timeline()]


def evil_run(batch: nb.Batch, text: str) -> nb.JobHandle[Any]:
    @nb.step(max_attempts=1, max_failed=9)
    def evil(value: int) -> None:
        print(text)
        nb.context().warn(text)
        raise ValueError(text)

    run = batch.submit(nb.Job("<svg onload=x>", numbers >> evil), 3, key=re.sub("[^!-~]", "?", text)[:40])
    run.wait(10)
    return run


def words_in(svg: str) -> str:
    return " ".join(ElementTree.fromstring(svg).itertext())


def facts(**counts: int) -> chain_picture.StepFacts:
    by_state = {ChunkStatus[name]: count for name, count in counts.items()}
    return chain_picture.StepFacts("count", "none", "File", "None", False, (), by_state, 0.01, 0.02)


# --- escaping -------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text)[:24])
def test_hostile_texts_are_shown_as_text(batch: nb.Batch, text: str) -> None:
    text = text.replace("\ud800", "")  # what is no text is not stored; `clip` is shown such a one below
    run = evil_run(batch, text)
    pages = [run._repr_html_(), batch._repr_html_(), run.chunk(2)._repr_html_()]

    for page in pages:
        seen = Balance(page)
        assert not seen.names & {"script", "svg", "style", "iframe", "img"}
        assert not {name for name in seen.attributes if name.startswith("on")}
        assert not re.search("[\u202a-\u202e\u2066-\u2069\x00]", page)
        assert len(page.encode()) <= static.MOST_BYTES
    for picture in pictures(run):
        assert not [each for each in ElementTree.fromstring(picture.svg).iter() if "onload" in each.attrib]


def test_names_and_types_of_any_length_are_valid_xml() -> None:
    for text in HOSTILE:
        step = chain_picture.StepFacts(text, "many", text, text, True, (1,), {ChunkStatus.FAILED: 1})
        last = chain_picture.StepFacts(f"{text}2", "none", text, "None", False, ())
        drawn = chain_picture.chain(text, [step, last])

        ElementTree.fromstring(drawn.svg)
        assert len(drawn.svg) < 20_000
        assert len(drawn.text) < 2_000
        assert "\x00" not in drawn.text


def test_letters_of_any_script_stay() -> None:
    drawn = chain_picture.chain("سلام 日本 ñ", [facts(COMPLETED=1)])

    assert "سلام 日本 ñ" in words_in(drawn.svg)


# --- standing alone -------------------------------------------------------------------------------


def test_pictures_need_nothing_from_outside(batch: nb.Batch) -> None:
    run = batch.submit(branching(), 6)
    run.wait(10)

    for picture in [branching().chain(), *pictures(run)]:
        root = ElementTree.fromstring(picture.svg)
        addresses = {"http://www.w3.org/2000/svg"}
        assert set(re.findall(r"https?://[^\"' )<]+", picture.svg)) == addresses
        assert "@import" not in picture.svg
        assert not list(root.iter(f"{SVG}script"))
        used = set(re.findall(r"url\(#([^)]+)\)", picture.svg))
        assert used <= {each.get("id") for each in root.iter()}


def test_pictures_say_what_they_are_to_who_cannot_see_them(batch: nb.Batch) -> None:
    run = batch.submit(branching(), 6)
    run.wait(10)

    for picture in pictures(run):
        root = ElementTree.fromstring(picture.svg)
        labels = [root.find(f"*[@id='{each}']") for each in str(root.get("aria-labelledby")).split()]
        assert root.get("role") == "img"
        assert [each.tag for each in labels if each is not None] == [f"{SVG}title", f"{SVG}desc"]
        assert "branching v1 #1" in str(root.findtext(f"{SVG}title"))


def test_a_picture_is_saved_as_it_is_and_only_as_svg(batch: nb.Batch, tmp_path: Path) -> None:
    picture = branching().chain()
    where = picture.save(tmp_path / "chain_picture.svg")

    assert where.read_text(encoding="utf-8") == picture.svg == picture._repr_svg_()
    with pytest.raises(ValueError, match=r"\.png"):
        picture.save(tmp_path / "chain_picture.png")


def test_every_front_end_finds_a_form_it_can_show(batch: nb.Batch) -> None:
    bundle = branching().chain()._repr_mimebundle_()

    assert list(bundle) == ["text/plain", "text/html", "image/svg+xml"]
    assert list(branching()._repr_mimebundle_(include={"text/plain"})) == ["text/plain"]
    assert "text/html" not in branching().chain()._repr_mimebundle_(exclude={"text/html"})


def test_static_pages_consist_of_what_sanitisers_let_through(batch: nb.Batch) -> None:
    allowed = {
        "div",
        "table",
        "caption",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "details",
        "summary",
        "pre",
        "code",
        "span",
    }
    attributes = {"align", "cellpadding", "dir", "open", "scope", "style"}
    run = evil_run(batch, "odd")

    for page in (run._repr_html_(), batch._repr_html_(), run.chunk(2)._repr_html_()):
        seen = Balance(page)
        assert seen.names <= allowed
        assert seen.attributes <= attributes


# --- bounded --------------------------------------------------------------------------------------


def test_a_chain_is_as_big_for_ten_chunks_as_for_a_million() -> None:
    small = chain_picture.chain("job", [facts(COMPLETED=9, FAILED=1)]).svg
    big = chain_picture.chain("job", [facts(COMPLETED=999_000, FAILED=1_000)]).svg

    assert abs(len(big) - len(small)) < 100
    assert ElementTree.fromstring(big).get("viewBox") == ElementTree.fromstring(small).get("viewBox")


def test_a_timeline_has_a_bound_however_many_attempts_there_are(batch: nb.Batch) -> None:
    busy = [
        timeline.Bar(lane, (lane + place) % 3, place, place + 1.0, (place % 8 + 1) / 8, 500, place % 5 == 0, "")
        for lane in range(timeline.LANES)
        for place in range(timeline.BINS)
    ]
    drawn = timeline.timeline("job", ["a", "b", "c"], [f"w{n}" for n in range(timeline.LANES)], busy, batch.jobs)

    assert len(drawn.svg.encode()) < 150_000
    assert "640,000 attempts" in drawn.text


def test_many_attempts_are_merged_and_none_is_lost(batch: nb.Batch) -> None:
    def odd(value: int) -> None:
        if value % 100 == 7:
            raise TypeError("odd")

    run = batch.submit(each(odd, max_failed=1.0), timeline.SINGLE + 100)
    run.wait(20)
    picture = run.timeline()
    frame = picture.frame()

    assert frame.columns == ["worker", "step", "start_seconds", "end_seconds", "busy", "attempts", "failed"]
    assert frame["attempts"].sum() == timeline.SINGLE + 101
    assert frame["failed"].sum() == 5
    assert "5 ended in an error" in picture.text


def test_a_page_with_much_in_it_is_made_shorter_not_broken(batch: nb.Batch) -> None:
    for place in range(25):
        batch.submit(one_step(print, "&" * 100), place, key="<" * 200 + str(place)).wait(10)
    page = batch._repr_html_()

    Balance(page)
    assert len(page.encode()) <= static.MOST_BYTES
    assert re.search(r"… \d+ more", page)


def test_a_long_text_keeps_its_beginning_and_its_end(batch: nb.Batch) -> None:
    page = evil_run(batch, "begin " + "x" * 100_000 + " end").chunk(2)._repr_html_()

    assert "characters left out" in page
    assert re.search(r"x end\s*</pre>", page)


# --- telling the truth ----------------------------------------------------------------------------


def test_a_chain_shows_steps_types_branches_and_gates() -> None:
    job = branching()
    words = words_in(job.chain().svg)

    for shown in ("numbers", "of_float", "of_text", "gated", "summed", "float", "* int", "all int"):
        assert shown in words
    assert words.count("gate: waits until all before is done") == 2
    assert "int → float | str to of_float, of_text" in job.chain().text


def test_a_chain_counts_what_the_steps_frame_counts(batch: nb.Batch) -> None:
    def odd(value: int) -> None:
        if value == 3:
            raise TypeError("odd")

    run = batch.submit(each(odd), 8)
    run.wait(10)
    names = ["step", "chunks", "completed", "failed", "queued", "gate_waiting", "in_progress"]

    assert run.chain().frame().select(names).rows() == run.steps().select(names).rows()
    assert "✗ 1 failed" in words_in(run.chain().svg)


def test_no_state_is_told_by_colour_alone() -> None:
    looks = [status.look for status in STACKED]
    by_colour: dict[str, list[str]] = {}
    for each_look in looks:
        by_colour.setdefault(each_look.colour, []).append(each_look.pattern)

    assert sorted(STACKED) == sorted(ChunkStatus)
    assert len({status.look.word for status in ChunkStatus}) == len(ChunkStatus)
    assert len({status.look.word for status in InstanceStatus}) == len(InstanceStatus)
    assert len({each_look.glyph for each_look in looks}) == len(looks)
    assert len({each_look.pattern for each_look in looks}) == len(looks)


@pytest.mark.parametrize("paper", ["#ffffff", "#111111"])
def test_every_colour_stands_out_on_light_and_on_dark(paper: str) -> None:
    colours = {status.look.colour for status in (*ChunkStatus, *InstanceStatus)} | set(style.STEP_COLOURS)

    assert {colour: ratio for colour in colours if (ratio := contrast(colour, paper)) < 3} == {}


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_the_smallest_share_is_still_to_be_seen() -> None:
    svg = f"<g>{chain_picture.bar('k', {ChunkStatus.COMPLETED: 999_999, ChunkStatus.FAILED: 1}, 0, 0, 150)}</g>"
    widths = [float(str(part.get("width"))) for part in ElementTree.fromstring(svg)]

    assert widths[0] == pytest.approx(150)
    assert sum(widths[1:]) == pytest.approx(150, abs=0.1)
    assert min(widths) >= 3


def test_steps_never_stand_on_each_other_and_lines_stay_on_the_page() -> None:
    targets = [[1, 2, 3], [4], [4], [4], [5], [6], [7], [8], []]
    where, width, height = layout.places(targets)
    spots = {(round(place.x), round(place.y)) for place in where}

    assert len(spots) == len(targets)
    assert all(place.x > 0 and place.x + layout.NODE[0] < width for place in where)
    assert all(place.y > 0 and place.y + layout.NODE[1] < height for place in where)


def test_pictures_of_what_has_not_begun_are_drawn_too(threaded: nb.Batch) -> None:
    run = threaded.submit(summing(), 0)
    run.wait(10)
    empty = timeline.timeline("job", ["a"], [], [], threaded.jobs)

    assert "no attempts yet" in words_in(empty.svg)
    assert "no chunks yet" in words_in(chain_picture.chain("job", [facts()]).svg)
    assert all(ElementTree.fromstring(picture.svg) is not None for picture in pictures(run))


def test_a_run_is_drawn_by_who_does_not_know_its_job(store: Path) -> None:
    with nb.open(store) as batch:
        batch.submit(branching(), 4).wait(10)
    with nb.open(store) as batch:
        run = batch.instance(1)
        shown = run.chain().text, run._repr_html_(), repr(run.timeline())

    assert "4 completed" in shown[0]
    assert "summed" in shown[1]
    assert "14 attempts" in shown[2]


def test_showing_changes_nothing(batch: nb.Batch) -> None:
    run = batch.submit(nb.Job("drops", numbers >> drop), 5)
    run.wait(10)
    before = batch.sql("SELECT count(*) FROM history").rows()
    for picture in pictures(run):
        assert repr(picture) == picture.text
    run._repr_html_()

    assert batch.sql("SELECT count(*) FROM history").rows() == before


def test_import_loads_no_picture() -> None:
    code = (
        "import sys, nbbatch; print([m for m in sys.modules if m.startswith(('nbbatch.pictures.', 'nbbatch.panel'))])"
    )

    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "['nbbatch.pictures.markup']\n"


def test_an_axis_has_clock_time_and_times_in_which_nothing_ran_are_short_and_say_how_long_they_were(
    threaded: nb.Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "HERE-2")
    time.tzset()
    bars = [
        timeline.Bar(0, 0, place * 10.0, place * 10.0 + 10, 1.0, 1, 0, "COMPLETED") for place in (0, 1, 2, 362, 363)
    ]
    began = datetime(2026, 7, 1, 12, 0, 5, tzinfo=UTC).timestamp()
    axis = timeline.Axis(bars, began)
    words = words_in(timeline.timeline("job", ["a"], ["w"], bars, threaded.jobs, began).svg)
    ticks = [said for _, said in axis.ticks()]
    monkeypatch.undo()
    time.tzset()

    assert axis.gaps == [(30.0, 3620.0)]
    assert axis.x(3620.0) - axis.x(30.0) == pytest.approx(54)
    assert axis.x(10.0) - axis.x(0.0) == pytest.approx(axis.x(3640.0) - axis.x(3630.0))
    assert ticks == ["14:00:10", "14:00:20", "14:00:30", "15:00:30", "15:00:40"]
    assert "59:50" in words


def test_errors_take_their_true_share_of_a_bar(threaded: nb.Batch) -> None:
    def marked(failed: int) -> str:
        bars = [timeline.Bar(0, 0, 0.0, 10.0, 1.0, 100, failed, "")]
        root = ElementTree.fromstring(timeline.timeline("job", ["a"], ["w"], bars, threaded.jobs).svg)
        (path,) = (each for each in root.iter(f"{SVG}path") if "ended in an error" in "".join(each.itertext()))
        return re.findall(r"v([\d.]+)h", path.get("d", ""))[0]

    assert [marked(50), marked(100)] == ["7", "14"]


def test_what_goes_on_is_drawn_open_to_the_present_and_lanes_are_in_order(inline: nb.Batch, clock: HandClock) -> None:
    seen: list[Any] = []

    def look(value: int) -> None:
        clock.advance(10)
        if value == 2:
            seen.append(inline.instance(1).timeline())

    inline.submit(each(look), 3).wait(10)
    words = words_in(seen[0].svg)

    assert "pale: goes on" in words
    assert "visit: 10 s, goes on" in words
    assert "4 attempts by 1 worker in 30 s" in seen[0].text


def test_of_many_workers_an_area_is_drawn(threaded: nb.Batch) -> None:
    read = Timeline()
    read.first_us, read.last_us = 0, 2_000
    for worker in range(12):
        read._put((f"w{worker}", 0, 0), [1_000, 1, 0])
        read._put((f"w{worker}", 1, worker % 2), [500, 1, 1])
    lanes, bars, _ = read.drawn(threaded._store, 1, 0, single=0)
    words = words_in(timeline.timeline("job", ["a", "b"], lanes, bars, threaded.jobs).svg)

    assert lanes == ["12 workers"]
    assert [(bar.step, bar.busy, bar.attempts, bar.failed) for bar in bars] == [
        (0, 1.0, 12, 0),
        (0, 0.25, 6, 6),
        (1, 0.25, 6, 6),
    ]
    assert "height: workers busy" in words
