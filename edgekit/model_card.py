"""A model card in Markdown, from a bundle's manifest alone: what it does not say is not claimed.

The sections follow Mitchell et al., *Model Cards for Model Reporting* (FAT* 2019), as far as a deployment knows them: what a model
was trained on and for whom is not in a bundle, and the card says so.
"""

import json
import re
from collections.abc import Mapping, Sequence

import msgspec

from edgekit.report.numbers import DASH, fixed, interval, ratio, significant, with_unit
from edgekit_runtime.manifest import InputRange, Manifest
from edgekit_runtime.measurement import Measurement
from edgekit_runtime.session import SessionConfig

__all__ = ["model_card"]

KINDS = {
    "int8": "8-bit integers",
    "mixed": "8-bit integers in part, float in part",
    "int4": "4-bit weights",
    "float16": "16-bit floating point",
    "float32": "32-bit floating point",
}
METRIC_DECIMALS = 4
SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~&])")


def model_card(manifest: Manifest, name: str) -> str:
    """The card.

    Args:
        manifest: The bundle's.
        name: The bundle's folder, for the commands that open it.
    """
    sections = [
        ("", _head(manifest)),
        ("What it costs and wins", _figures(manifest)),
        ("How sure that is", _sure(manifest)),
        ("What goes in and comes out", _contract(manifest)),
        ("What it needs", _needs(manifest)),
        ("On a device", _opening(name)),
        ("What this card does not claim", _limits(manifest)),
        ("Made with", _table(("package", "version"), sorted(manifest.tools.items()))),
    ]
    blocks = [f"## {title}\n\n{text}" if title else text for title, text in sections if text]
    return "\n\n".join(blocks) + "\n"


def _head(manifest: Manifest) -> str:
    chosen = manifest.chosen
    rows = [
        ("Target", _plain(manifest.target)),
        ("Precision", KINDS.get(chosen.verdict, _plain(chosen.verdict))),
        ("Candidate", _plain(chosen.name)),
        ("Made", _plain(manifest.created)),
        ("Model file", f"{_plain(manifest.model)}, SHA-256 {_code(manifest.files[manifest.model].sha256)}"),
    ]
    return f"# {_plain(manifest.name)}\n\n{_plain(chosen.reason)}.\n\n{_table(('', ''), rows)}"


def _figures(manifest: Manifest) -> str:
    before, after = manifest.baseline, manifest.chosen.measurement
    rows = [(label, *cells) for label, *cells in _rows(before, after) if set(cells) != {DASH}]
    if not rows:
        return ""
    note = (
        "Both models were measured by edgekit: the metric is the one of the deployed recipe, where higher is better; latency is "
        "the median of one call, in rounds in which the two took turns; memory is the peak of a fresh process, interpreter "
        "included; cold start is from opening to the first output in a fresh process, without imports. Brackets are 95 % intervals."
    )
    return f"{_table(('', 'float', 'this model'), rows)}\n\n{note}"


def _rows(before: Measurement, after: Measurement) -> list[tuple[str, str, str]]:
    def sized(size_bytes: int | None) -> str:
        return with_unit(None if size_bytes is None else size_bytes / 1e6, "MB")

    def counted(figures: Measurement) -> str:
        return with_unit(None if figures.instructions is None else figures.instructions / 1e6, "M")

    spread = f" [{interval(after.metric_drop_ci, METRIC_DECIMALS)}]" if after.metric_drop_ci else ""
    faster = f" [{interval(after.speedup_ci)}]" if after.speedup_ci else ""
    far = "equal" if after.max_abs_diff == 0 else with_unit(after.sqnr_db, "dB")
    return [
        ("Metric", fixed(before.metric, METRIC_DECIMALS), fixed(after.metric, METRIC_DECIMALS)),
        ("Metric lost", DASH, _spread(fixed(after.metric_drop, METRIC_DECIMALS), spread)),
        ("Latency", with_unit(before.latency_ms, "ms"), with_unit(after.latency_ms, "ms")),
        ("Latency, 99th percentile", with_unit(before.latency_p99_ms, "ms"), with_unit(after.latency_p99_ms, "ms")),
        ("Times as fast as float", DASH, _spread(ratio(after.speedup), faster)),
        ("Instructions of a call, counted under emulation", counted(before), counted(after)),
        ("Size of the model's files", sized(before.size_bytes), sized(after.size_bytes)),
        ("Peak memory", sized(before.peak_rss_bytes), sized(after.peak_rss_bytes)),
        ("Cold start", with_unit(before.cold_start_ms, "ms"), with_unit(after.cold_start_ms, "ms")),
        ("Outputs against float's, SQNR", DASH, far),
        ("Largest difference of an output", DASH, significant(after.max_abs_diff, 2)),
    ]


def _spread(value: str, text: str) -> str:
    return value if value == DASH else value + text


def _sure(manifest: Manifest) -> str:
    chosen = manifest.chosen
    told = ""
    if chosen.max_drop is not None and chosen.examples:
        told = f"The budget was {chosen.max_drop:g} of the metric, on {chosen.examples} examples. "
    return told + _certainty(manifest)


def _certainty(manifest: Manifest) -> str:
    chosen = manifest.chosen
    figures = chosen.measurement
    if figures.max_abs_diff == 0 and figures.metric_drop in (None, 0.0):
        return "Its outputs were equal to the float model's on everything they were compared on."
    if chosen.certified:
        return (
            "**Certified**: not only the measured loss of the metric but also the unfavourable end of its interval is inside the "
            "budget that was set, on enough examples to say so."
        )
    if figures.metric_drop is None:
        return "**Not certified**: the metric was not measured, so what this model loses in its task is not known."
    return "**Not certified**: the unfavourable end of the metric's interval is outside the budget, or there were too few examples."


def _contract(manifest: Manifest) -> str:
    seen = manifest.preprocessing
    rows = [("input", _code(str(spec)), _range(seen[spec.name]) if spec.name in seen else DASH) for spec in manifest.inputs]
    rows += [("output", _code(str(spec)), DASH) for spec in manifest.outputs]
    text = _table(("", "name, dtype, axes", "values at calibration"), rows)
    if not seen:
        return text
    return (
        f"{text}\n\nInputs must be preprocessed as they were at calibration: values far outside these ranges mean another "
        "preprocessing, and the runtime warns of them."
    )


def _range(seen: InputRange) -> str:
    return f"{significant(seen.minimum)} to {significant(seen.maximum)}"


def _needs(manifest: Manifest) -> str:
    provider, default = manifest.provider, msgspec.to_builtins(SessionConfig())
    asked = {key: value for key, value in msgspec.to_builtins(manifest.session).items() if value != default[key]}
    isa = [f"{_plain(architecture)} with {_plain(', '.join(names))}" for architecture, names in manifest.isa.items() if names]
    lines = [
        f"- onnxruntime {_plain(manifest.onnxruntime)} or newer, on {_code(provider.name)}"
        + (f" with {_settings(provider.options)}" if provider.options else "")
    ]
    lines += [f"- for the figures above to hold: {'; or '.join(isa)}"] if isa else []
    lines += [f"- session settings, which the bundle brings along: {_settings(asked)}"] if asked else []
    return "\n".join(lines)


def _settings(values: Mapping[str, object]) -> str:
    return ", ".join(f"{_code(key)} = {_code(str(value))}" for key, value in values.items())


def _opening(name: str) -> str:
    lines = [
        "```python",
        "from edgekit_runtime import load",
        "",
        f"model = load({json.dumps(name, ensure_ascii=False)})",
        "outputs = model(feed)  # arrays by input name",
        "```",
    ]
    return "\n".join(
        [
            "Only `edgekit-runtime` is needed there, with numpy and onnxruntime.",
            "",
            *lines,
            "",
            "`python -m edgekit_runtime selftest` on the bundle tells whether it computes there what it computed here, and "
            "`python -m edgekit_runtime bench` how fast it is there.",
        ]
    )


def _limits(manifest: Manifest) -> str:
    figures = manifest.chosen.measurement
    lines = ["- what the model was trained on, whom it is for and whom it may harm: a bundle does not know"]
    if figures.metric is None:
        lines.append("- how well it does its task: the metric was not measured")
    if figures.latency_ms is None:
        lines.append("- how fast it is: latency was not measured")
    else:
        lines.append("- how fast it is on any other machine than the one that measured it")
    if figures.peak_rss_bytes is None:
        lines.append("- how much memory it takes: that was not measured")
    if not manifest.preprocessing:
        lines.append("- which values its inputs may have: nothing was calibrated")
    lines += [f"- {_plain(claim)}" for claim in manifest.chosen.claims_not_made]
    return "\n".join(lines)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _plain(text: str) -> str:
    """Text as it is: nothing in it is taken for Markdown or HTML, and it stays on its line."""
    return SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _code(text: str) -> str:
    """Text in code font, also inside a table."""
    text = " ".join(text.split())
    fence = "``" if "`" in text else "`"
    padded = f" {text} " if "`" in text else text
    return f"{fence}{padded}{fence}".replace("|", "\\|")
