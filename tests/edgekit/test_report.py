"""The report: offline, safe with any text, honest about what was not measured, and the same every time."""

import html
import re
import subprocess
import sys
from html.parser import HTMLParser
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.deployment import CandidateResult, Deployment, ErrorHistogram
from edgekit.report import render
from edgekit_runtime.measurement import Measurement

MAX_BYTES = 1_500_000
VOID = {"meta", "link", "br", "hr", "img", "input"}
FLOAT = Measurement(
    metric=0.9312,
    metric_drop=0.0,
    metric_drop_ci=(0.0, 0.0),
    latency_ms=1.873,
    latency_p99_ms=2.21,
    speedup=1.0,
    speedup_ci=(1.0, 1.0),
    size_bytes=3_420_112,
    peak_rss_bytes=98_400_000,
    cold_start_ms=41.2,
    max_abs_diff=0.0,
)


def histogram(scale: float, output: str = "logits") -> ErrorHistogram:
    errors = np.random.default_rng(7).normal(0, scale, 5000)
    reach = float(np.abs(errors).max())
    counts, edges = np.histogram(errors, bins=40, range=(-reach, reach))
    return ErrorHistogram(output, edges.tolist(), counts.tolist())


def candidate(name: str, status: Any, drop: float, latency_ms: float, **changes: Any) -> CandidateResult:
    speedup = 1.873 / latency_ms
    figures = Measurement(
        metric=0.9312 - drop,
        metric_drop=drop,
        metric_drop_ci=(drop - 0.0015, drop + 0.0015),
        latency_ms=latency_ms,
        latency_p99_ms=1.2 * latency_ms,
        speedup=speedup,
        speedup_ci=(0.97 * speedup, 1.03 * speedup),
        size_bytes=938_000,
        peak_rss_bytes=88_300_000,
        cold_start_ms=28.9,
        max_abs_diff=0.74,
        sqnr_db=27.4,
    )
    fields: dict[str, Any] = {
        "name": name,
        "status": status,
        "reason": f"Why {name} is {status}.",
        "measurement": figures,
        "kind": "int8",
        "examples": 2000,
        "errors": [histogram(0.05 + drop)],
    }
    return CandidateResult(**(fields | changes))


def deployment(**changes: Any) -> Deployment:
    fields: dict[str, Any] = {
        "bundle": "fashion.edge",
        "name": "fashion",
        "target": "host",
        "measured": "real",
        "verdict": "int8",
        "reason": "It is the fastest inside the budget.",
        "certified": True,
        "max_drop": 0.005,
        "optimize": "latency",
        "baseline": FLOAT,
        "candidates": [
            candidate("float32", "beaten", 0.0, 1.873, measurement=FLOAT, kind="float32"),
            candidate("dynamic-int8", "rejected", 0.0005, 2.06),
            candidate("static-u8s8-minmax", "rejected", 0.6121, 0.84),
            candidate("static-s8s8-mse", "chosen", 0.0012, 0.81, notes=["2 nodes stay in float."]),
            candidate("a16w8", "failed", 0.0, 1.0, measurement=Measurement(), errors=[], examples=0),
        ],
        "claims_not_made": [],
        "environment": {"machine": "x86_64", "onnxruntime": "1.23.0"},
        "created": "2025-11-22T10:40:00Z",
    }
    return Deployment(**(fields | changes))


def without(measurement: Measurement, *names: str) -> Measurement:
    return msgspec.structs.replace(measurement, **dict.fromkeys(names))


def without_everywhere(given: Deployment, *names: str) -> Deployment:
    candidates = [msgspec.structs.replace(c, measurement=without(c.measurement, *names)) for c in given.candidates]
    return msgspec.structs.replace(given, baseline=without(given.baseline, *names), candidates=candidates)


class Page(HTMLParser):
    """The page as a browser reads it: its text, its ids, its attributes, and whether every tag is closed."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.text: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


@pytest.fixture(scope="module")
def page() -> str:
    return render(deployment())


def test_page_is_one_document_with_unique_ids_and_closed_tags(page: str) -> None:
    parsed = Page(page)
    assert page.startswith("<!DOCTYPE html>")
    assert parsed.tags.count("h1") == 1
    assert len(parsed.ids) == len(set(parsed.ids))
    references = set(re.findall(r"url\(#([^)]+)\)", page)) | {value[1:] for _, name, value in parsed.attributes if name == "href"}
    assert references <= set(parsed.ids)


def test_page_loads_nothing(page: str) -> None:
    parsed = Page(page)
    assert "http:" not in page
    assert "https:" not in page
    assert "@import" not in page
    assert not {"script", "link", "img", "iframe", "object", "image"} & set(parsed.tags)
    assert all(value.startswith("#") for _, name, value in parsed.attributes if name in ("href", "src", "xlink:href"))
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", page))


def test_page_is_small_even_with_many_outputs_and_candidates(page: str) -> None:
    assert len(page.encode()) < 300_000
    many = [histogram(0.05, f"output-{index}") for index in range(20)]
    crowd = [
        candidate(f"static-{index}", "beaten" if index else "chosen", 0.001 * index, 0.8 + index / 100, errors=many)
        for index in range(30)
    ]
    text = render(deployment(candidates=crowd))
    assert len(text.encode()) < MAX_BYTES
    assert "more outputs are not shown" in text


def test_same_deployment_gives_the_same_page(page: str) -> None:
    assert render(deployment()) == page


def test_drawing_leaves_the_users_matplotlib_settings_alone() -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    render(deployment())
    assert dict(mpl.rcParams) == before


HOSTILE = st.one_of(
    st.text(min_size=1, max_size=40),
    st.sampled_from(
        [
            "<script>alert(1)</script>",
            "</style></svg><img src=x onerror=alert(1)>",
            '" onmouseover="alert(1)',
            "{{ 7 * 7 }}{% raw %}",
            r"$\frac{1}{0}$",
            "<!-- -->",
            "&lt;b&gt;",
            "模型 🚀",
            "https://example.com/x.js",
        ]
    ),
)


@settings(max_examples=15, deadline=None)
@given(name=HOSTILE, reason=HOSTILE, note=HOSTILE, output=HOSTILE, other=HOSTILE)
def test_any_text_appears_escaped(name: str, reason: str, note: str, output: str, other: str) -> None:
    hostile = candidate(name, "chosen", 0.0012, 0.81, reason=reason, notes=[note], errors=[histogram(0.05, output)])
    text = render(
        deployment(
            name=other,
            target=other,
            verdict=other,
            reason=other,
            candidates=[hostile, candidate(other, "beaten", 0.002, 0.9, errors=[])],
            claims_not_made=[other],
            environment={other: other},
            created=other,
        )
    )
    for words in (name, reason, note, output, other):
        assert html.escape(words).replace("&quot;", "&#34;").replace("&#x27;", "&#39;") in text
    parsed = Page(text)
    assert not {"script", "img", "b"} & set(parsed.tags)
    assert not [name for _, name, _ in parsed.attributes if name.startswith("on")]


def test_every_candidate_is_listed_with_its_reason(page: str) -> None:
    words = Page(page).words
    for listed in deployment().candidates:
        assert f"{listed.name} {listed.status} {listed.reason}" in words
    assert "2 nodes stay in float." in words


def test_what_was_not_measured_is_a_dash() -> None:
    nothing = candidate("static", "chosen", 0.0, 1.0, measurement=Measurement(), errors=[])
    text = render(deployment(candidates=[nothing], baseline=Measurement(), certified=False))
    parsed = Page(text)
    shown = [parsed.words, *(value for _, name, value in parsed.attributes if name in ("aria-label", "data-label"))]
    assert not re.search(r"\b(none|nan|inf|infinity|null)\b", " ".join(shown), re.IGNORECASE)
    assert text.count("<span>—</span>") == 20


def test_budget_line_is_in_both_plots(page: str) -> None:
    parsed = Page(page)
    assert {"wide-budget", "narrow-budget"} <= set(parsed.ids)
    assert "".join(parsed.text).count("budget 0.005") == 2


def test_plot_marks_every_measured_candidate_and_names_the_others(page: str) -> None:
    parsed = Page(page)
    for number in (1, 2, 3, 4):
        assert f"wide-point-{number}" in parsed.ids
    assert "wide-point-5" not in parsed.ids
    assert "Not drawn, for want of a metric or a latency: 5 a16w8." in parsed.words


def test_candidate_off_the_scale_is_shown_with_its_figure(page: str) -> None:
    assert "3 static-u8s8-minmax: 0.6121" in Page(page).words


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (("metric", "metric_drop", "metric_drop_ci"), "because the metric was not measured"),
        (("latency_ms", "latency_p99_ms", "speedup", "speedup_ci"), "because latency was not measured"),
        (("metric", "metric_drop", "latency_ms"), "because the metric and latency were not measured"),
    ],
)
def test_missing_figures_replace_the_plot_by_a_sentence(names: tuple[str, ...], sentence: str) -> None:
    parsed = Page(render(without_everywhere(deployment(certified=False), *names)))
    assert sentence in parsed.words
    assert not [name for name in parsed.ids if name.startswith("wide-")]


def test_unmeasured_metric_is_neither_certified_nor_accepted() -> None:
    given = without_everywhere(deployment(certified=False), "metric", "metric_drop", "metric_drop_ci")
    heading = render(given).partition("<h1>")[2].partition("</h1>")[0]
    assert "metric not measured" in heading
    assert "certified" not in heading
    assert "accepted" not in heading


def test_verdict_is_said_in_one_sentence(page: str) -> None:
    assert (
        "static-s8s8-mse ships: it is 2.31× as fast as float (95 % interval 2.24 to 2.38) and 3.65× smaller, and it loses "
        "0.0012 of the metric (95 % interval −0.0003 to 0.0027), all of it inside the budget of 0.005." in Page(page).words
    )


def test_accepted_says_that_the_interval_reaches_past_the_budget() -> None:
    candidates = [candidate("static", "chosen", 0.004, 0.8)]
    words = Page(render(deployment(certified=False, candidates=candidates))).words
    assert "int8, accepted" in words
    assert "inside the budget of 0.005, though the interval reaches past it" in words


def test_float_that_wins_is_said_to_ship_unchanged() -> None:
    candidates = [
        candidate("float32", "chosen", 0.0, 1.873, measurement=FLOAT, kind="float32"),
        candidate("dynamic-int8", "rejected", 0.0005, 2.06),
    ]
    words = Page(render(deployment(verdict="float32", candidates=candidates))).words
    assert "float32, unchanged" in words
    assert "no candidate was faster than float and also stayed inside the budget" in words


@pytest.mark.parametrize("measured", ["emulated", "software", "static"])
def test_latency_that_is_not_the_devices_is_labelled_so(measured: str, page: str) -> None:
    warning = "Latency here is not device latency."
    assert warning not in page
    text = render(deployment(measured=measured))
    assert warning in text
    assert not re.search(r">latency of one call", text)


def test_metric_is_not_written_as_a_percentage() -> None:
    candidates = [candidate("static", "chosen", 0.12, 0.8, errors=[])]
    baseline = msgspec.structs.replace(FLOAT, metric=37.25)
    text = render(deployment(candidates=candidates, baseline=baseline, max_drop=0.5))
    assert ">37.25" in text or "37.250 →" in text
    assert not re.search(r"37\.\d+\s*%", text)


def test_without_histograms_a_sentence_says_so() -> None:
    candidates = [candidate("static", "chosen", 0.001, 0.8, errors=[])]
    assert "There are no plots of output errors" in render(deployment(candidates=candidates))


@pytest.mark.parametrize(
    "odd",
    [
        ErrorHistogram("logits", [0.0, 0.0], [100]),
        ErrorHistogram("logits", [], []),
        ErrorHistogram("logits", [-1.0, 0.0, 1.0], [0, 0]),
        ErrorHistogram("logits", [float("-inf"), 0.0, float("inf")], [1, 1]),
        ErrorHistogram("logits", [0.0, 1e-30], [3]),
        ErrorHistogram("logits", [2.0, 3.0, 1e9], [3, 1]),
    ],
)
def test_odd_histograms_do_not_break_the_page(odd: ErrorHistogram) -> None:
    candidates = [
        candidate("static", "chosen", 0.001, 0.8, errors=[odd]),
        candidate("dynamic", "beaten", 0.001, 0.9),
    ]
    words = Page(render(deployment(candidates=candidates))).words
    assert "Output logits" in words
    assert not re.search(r"\b(nan|inf)\b", words)


@pytest.mark.parametrize("max_drop", [0.0, 1e-9, 0.5, float("inf")])
def test_any_budget_can_be_drawn(max_drop: float) -> None:
    parsed = Page(render(deployment(max_drop=max_drop)))
    assert ("wide-budget" in parsed.ids) == (max_drop != float("inf"))


def test_importing_the_report_imports_neither_matplotlib_nor_jinja2() -> None:
    code = "import sys, edgekit.report; print(sorted({'matplotlib', 'jinja2', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
