"""A made-up deployment as a search of some minutes leaves it: thirty candidates, findings, times by operator, sensitivity."""

from edgekit.deployment import CandidateResult, Deployment, OperatorTime, ReportedFinding
from edgekit.inspection.sensitivity import GroupSensitivity, Sensitivity
from edgekit.verdict import Left, Tried, decide
from edgekit_runtime.measurement import Measurement

FLOAT_MS = 31.4
EXAMPLES = 1000
BASELINE = Measurement(
    metric=0.763,
    metric_drop=0.0,
    metric_drop_ci=(0.0, 0.0),
    latency_ms=FLOAT_MS,
    latency_p99_ms=36.0,
    speedup=1.0,
    speedup_ci=(1.0, 1.0),
    size_bytes=18_540_000,
    peak_rss_bytes=128_000_000,
    cold_start_ms=96.0,
    max_abs_diff=0.0,
)
# Name, kind, speed-up, drop, its half-width, megabytes, memory in megabytes, dB, the stage of the search.
ROWS = [
    ("float32@openvino", "float32", 1.12, 0.0, 0.0, 18.5, 151, 110.0, ""),
    ("float32-1thread", "float32", 0.58, 0.0, 0.0, 18.5, 126, 120.0, "settings"),
    ("float32-no-arena", "float32", 0.97, 0.0, 0.0, 18.5, 118, 120.0, ""),
    ("dynamic-u8s7", "int8", 0.41, 0.004, 0.006, 5.1, 90, 31.0, "settings"),
    ("dynamic-u8u8", "int8", 0.39, 0.009, 0.007, 5.1, 91, 28.0, "settings"),
    ("static-u8s7-minmax-conv", "int8", 1.71, 0.006, 0.007, 5.2, 88, 27.1, ""),
    ("static-u8s7-mse-conv", "int8", 1.72, 0.003, 0.006, 5.2, 88, 29.5, ""),
    ("static-u8s7-percentile-conv", "int8", 1.70, 0.005, 0.006, 5.2, 88, 28.8, ""),
    ("static-u8s7-entropy-conv", "int8", 1.71, 0.021, 0.010, 5.2, 88, 22.0, ""),
    ("static-u8s8-minmax-everything", "int8", 1.55, 0.183, 0.024, 5.2, 88, 11.8, "schemes"),
    ("static-u8s8-mse-everything", "int8", 1.56, 0.171, 0.023, 5.2, 88, 12.0, "schemes"),
    ("static-u8s7-mse-everything", "int8", 1.93, 0.012, 0.009, 5.2, 87, 25.0, ""),
    ("static-u8s7-mse-everything-bias", "int8", 1.92, 0.007, 0.007, 5.2, 87, 26.8, ""),
    ("static-u8s7-mse-everything-equalized", "int8", 1.93, 0.008, 0.008, 5.2, 87, 26.5, ""),
    ("static-u8s7-mse-everything-rounded", "int8", 1.93, 0.004, 0.006, 5.2, 87, 28.0, ""),
    ("static-u8s7-mse-everything-rounded-1thread", "int8", 1.05, 0.004, 0.006, 5.2, 84, 28.0, ""),
    ("static-u8s7-mse-placed", "mixed", 2.02, 0.002, 0.005, 6.9, 92, 31.2, ""),
    ("static-u8s7-mse-placed-no-spinning", "mixed", 1.88, 0.002, 0.005, 6.9, 92, 31.2, ""),
    ("static-u8s7-mse-floatoutputs@openvino", "int8", 2.11, 0.003, 0.005, 5.3, 149, 30.1, ""),
    ("static-u8s7-mse-floatoutputs-conv@openvino", "mixed", 1.98, 0.001, 0.004, 6.1, 150, 33.5, ""),
    ("static-s8s8-minmax-everything", "int8", 0.71, 0.010, 0.008, 5.2, 88, 25.5, "settings"),
    ("a16w8", "mixed", 0.33, 0.001, 0.003, 9.4, 105, 44.0, "settings"),
    ("weights-int4", "int4", 0.98, 0.031, 0.012, 4.1, 101, 19.0, "schemes"),
    ("float16", "float16", 0.52, 0.0, 0.001, 9.3, 131, 61.0, "settings"),
]
LEFT = [("static-u8u8-minmax-conv", 1.21), ("static-u8u8-mse-conv", 1.23), ("weights-int8-b32", 0.93), ("dynamic-s8s8", 0.05)]
FAILED = ("bfloat16@openvino", "bfloat16", "open bfloat16.onnx: this processor has no bfloat16; choose another precision")


def tried_candidates() -> list[Tried]:
    """The candidates as the verdict takes them."""
    found = []
    for name, kind, speedup, drop, half, size, memory, sqnr, stage in ROWS:
        spread = 0.03 if stage else 0.012
        figures = Measurement(
            metric=BASELINE.metric - drop,
            metric_drop=drop,
            metric_drop_ci=(round(drop - half, 4), round(drop + half, 4)),
            latency_ms=FLOAT_MS / speedup,
            latency_p99_ms=1.15 * FLOAT_MS / speedup,
            speedup=speedup,
            speedup_ci=(speedup * (1 - spread), speedup * (1 + spread)),
            size_bytes=int(size * 1e6),
            peak_rss_bytes=int(memory * 1e6),
            cold_start_ms=70.0,
            max_abs_diff=1.2,
            sqnr_db=sqnr,
        )
        found.append(Tried(name, kind, figures, 200 if stage else EXAMPLES))
    for name, speedup in LEFT:
        interval = (0.97 * speedup, 1.03 * speedup)
        timed = Measurement(latency_ms=FLOAT_MS / speedup, speedup=speedup, speedup_ci=interval, size_bytes=5_200_000, sqnr_db=24.0)
        found.append(Tried(name, "int8", timed, left=Left("beaten", f"{speedup:.2f}× as fast as float, others are faster")))
    return [*found, Tried(*FAILED[:2], Measurement(), 0, FAILED[2])]


def crowded_deployment(optimize="latency", max_drop=0.01, pick=None) -> Deployment:
    """The deployment, with the verdict that these figures give."""
    baseline, others = Tried("float32", "float32", BASELINE, EXAMPLES), tried_candidates()
    verdict = decide(baseline, others, max_drop, optimize, pick=pick, empty_rss_bytes=63_000_000)
    stages = {row[0]: row[-1] for row in ROWS}
    return Deployment(
        bundle="efficientnet-lite0.edge",
        name="efficientnet-lite0",
        target="host",
        measured="real",
        verdict=verdict.kind,
        reason=verdict.reason,
        certified=verdict.certified,
        max_drop=max_drop,
        optimize=optimize,
        baseline=BASELINE,
        candidates=[
            CandidateResult(
                name=one.name,
                status=verdict.outcomes[one.name][0],
                reason=verdict.outcomes[one.name][1],
                measurement=one.measurement,
                kind=one.kind,
                examples=one.examples,
                stage=stages.get(one.name, ""),
                provider="OpenVINOExecutionProvider" if "openvino" in one.name else "CPUExecutionProvider",
                session="1 thread" if "1thread" in one.name else "no spinning" if "spinning" in one.name else "",
            )
            for one in (baseline, *others)
        ],
        claims_not_made=["parity with PyTorch: the recipe starts from an ONNX file, so float is that file"],
        environment={"processor": "AMD EPYC", "cores": "2 of 2", "onnxruntime": "1.31.1"},
        created="2026-11-22T17:00:00+00:00",
        front=verdict.front,
        picked=verdict.picked,
        empty_rss_bytes=63_000_000,
        operator_times=operator_times(),
        sensitivity=sensitivity(),
        findings=findings(),
        seed=0,
        budget_s=180.0,
        spent_s=151.0,
    )


def operator_times() -> list[OperatorTime]:
    """Twenty operators, of which a few take most of the time."""
    some = [
        OperatorTime("FusedConv", 26800.0, None),
        OperatorTime("QLinearConv", None, 11900.0),
        OperatorTime("Conv", 3100.0, 1400.0),
        OperatorTime("QLinearAdd", None, 610.0),
        OperatorTime("ReorderInput", 120.0, 0.0),
        OperatorTime("com.microsoft.QLinearGlobalAveragePool", None, 85.0),
        OperatorTime("QuantizeLinear", None, 240.0),
        OperatorTime("DequantizeLinear", None, 55.0),
        OperatorTime("Gemm", 410.0, 130.0),
        OperatorTime("Add", 720.0, None),
    ]
    return [*some, *(OperatorTime(f"Operator{index}", 3.0 + index, 2.0 + index) for index in range(10))]


def sensitivity() -> Sensitivity:
    """Forty nodes, worst first."""
    groups = [
        GroupSensitivity(
            name=f"/blocks/blocks.{index // 3}/blocks.{index // 3}.{index % 3}/conv_dw/Conv",
            kind="node",
            nodes=[f"n{index}"],
            operators=["Conv", "Clip"] if index % 3 else ["Conv"],
            weight_bytes=1000 * (index + 1),
            alone_sqnr_db=26.0 + 0.9 * index,
            alone_metric_drop=None,
            spared_sqnr_gain_db=3.0 / (1 + index) - 0.05 * (index % 4),
            spared_metric_gain=None,
        )
        for index in range(40)
    ]
    return Sensitivity(
        model="efficientnet-lite0",
        scheme="static-u8s7-mse-everything",
        feeds=8,
        examples=None,
        metric=None,
        quantized_metric=None,
        quantized_sqnr_db=21.5,
        seconds=31.0,
        groups=groups,
        layers=[],
        notes=[],
    )


def findings() -> list[ReportedFinding]:
    """One of each kind."""
    return [
        ReportedFinding(
            name="qdq-survive",
            kind="slow",
            title="12 % of the time goes into Q/DQ pairs that survive, 9 of them around Resize",
            evidence=["QuantizeLinear 240 µs, DequantizeLinear 55 µs of 14 420 µs", "blocked by Resize (linear): 9 pairs"],
            advice="Leave Resize in float together with its neighbours, or use nearest, which passes integers on.",
            impact=0.12,
        ),
        ReportedFinding(
            name="outlier-channel",
            kind="wrong",
            title="One channel of /blocks/blocks.0/conv_dw/Conv is 41 times as wide as the median one",
            evidence=["channel 17 spans [−38.2, 35.0], the median channel [−0.9, 0.9]"],
            advice="Try the candidates with equalization, or spare this node.",
            impact=0.05,
        ),
    ]
