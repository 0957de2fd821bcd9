"""What is written is what is read."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit_runtime import BundleError, Measurement, Provider, SessionConfig, TensorSpec
from edgekit_runtime.manifest import Chosen, FileEntry, InputRange, Manifest, decode_manifest, encode_manifest
from edgekit_runtime.measurement import finite

WORD = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
INTERVAL = st.none() | st.tuples(NUMBER, NUMBER)
MEASUREMENT = st.builds(
    Measurement,
    **{name: st.none() | NUMBER for name in ("metric", "metric_drop", "latency_ms", "speedup", "cold_start_ms", "sqnr_db")},
    **dict.fromkeys(("metric_drop_ci", "speedup_ci"), INTERVAL),
    **{name: st.none() | st.integers(0, 2**40) for name in ("size_bytes", "peak_rss_bytes")},
)
SPECS = st.lists(
    st.builds(TensorSpec, WORD, st.sampled_from(["float32", "int64"]), st.lists(st.integers(0, 9) | WORD, max_size=4).map(tuple)),
    max_size=3,
)
WORDS = st.dictionaries(WORD, WORD, max_size=2)
NAME = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,20}", fullmatch=True).filter(lambda name: name.lower() != "manifest.json")
ENTRY = st.builds(FileEntry, st.text("0123456789abcdef", min_size=64, max_size=64), st.integers(0, 2**40))


@st.composite
def manifests(draw):
    files = draw(st.dictionaries(NAME, ENTRY, min_size=1, max_size=3))
    return Manifest(
        format=1,
        name=draw(WORD),
        created=draw(WORD),
        model=draw(st.sampled_from(sorted(files))),
        inputs=draw(SPECS),
        outputs=draw(SPECS),
        target=draw(WORD),
        provider=Provider(draw(WORD), draw(WORDS)),
        session=SessionConfig(
            draw(st.none() | st.integers(1, 64)),
            draw(st.sampled_from(["all", "basic"])),
            draw(WORDS),
            spinning=draw(st.booleans()),
            memory_arena=draw(st.booleans()),
            blocked_layout=draw(st.booleans()),
        ),
        preprocessing=draw(st.dictionaries(WORD, st.builds(InputRange, NUMBER, NUMBER), max_size=2)),
        isa=draw(st.dictionaries(WORD, st.lists(WORD, max_size=2), max_size=2)),
        onnxruntime=draw(WORD),
        chosen=Chosen(draw(WORD), draw(WORD), draw(WORD), draw(st.booleans()), draw(MEASUREMENT)),
        baseline=draw(MEASUREMENT),
        tools=draw(WORDS),
        files=files,
    )


@given(manifest=manifests())
def test_round_trip(manifest):
    data = encode_manifest(manifest)
    assert decode_manifest(data, "here") == manifest
    assert encode_manifest(decode_manifest(data, "here")) == data


@given(manifest=manifests())
def test_any_json_tool_reads_it(manifest):
    document = json.loads(encode_manifest(manifest))
    assert len(document.pop("sha256")) == 64
    assert document == msgspec.to_builtins(manifest, str_keys=True) | {
        key: json.loads(msgspec.json.encode(getattr(manifest, key))) for key in ("inputs", "outputs", "chosen", "baseline")
    }


@given(manifest=manifests(), data=st.data())
def test_any_other_byte_is_refused(manifest, data):
    whole = bytearray(encode_manifest(manifest))
    offset = data.draw(st.integers(0, len(whole) - 1))
    whole[offset] ^= data.draw(st.integers(1, 255))
    with pytest.raises(BundleError, match=r"open here: manifest\.json is damaged"):
        decode_manifest(bytes(whole), "here")


def test_text_that_breaks_parsers(seal_text):
    for text in ("[" * 100_000, '{"format": ' + "[" * 100_000, '{"format": 1e999}', "", "null"):
        for data in (text.encode(), seal_text(text), b"\xff" + seal_text(text)):
            with pytest.raises(BundleError, match=r"manifest\.json"):
                decode_manifest(data, "here")


def test_figures_that_json_cannot_hold_become_null():
    assert [finite(value) for value in (1.5, float("nan"), float("inf"), float("-inf"))] == [1.5, None, None, None]
    assert json.loads(msgspec.json.encode(Measurement(sqnr_db=float("inf"))))["sqnr_db"] is None
