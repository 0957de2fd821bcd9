"""Claims that a deployment does not make, since what they need was missing."""

from edgekit.target import Target

__all__ = ["claims_not_made"]


def claims_not_made(
    target: Target,
    *,
    timed: bool,
    counted: bool,
    evaluated: bool,
    calibrated: bool,
    compared_with_torch: bool,
    asked_for_latency: bool,
) -> list[str]:
    """What was not measured, each with the reason, in sentences.

    Args:
        target: Where it will run.
        timed: Whether latency was measured.
        counted: Whether instructions were, under emulation.
        evaluated: Whether there is a metric.
        calibrated: Whether there is calibration data.
        compared_with_torch: Whether the graph was compared with a module.
        asked_for_latency: Whether the user wanted the fastest.
    """
    claims = []
    if not evaluated:
        claims.append("accuracy: the recipe has no evaluation or no metric, so only the distance of outputs is known")
    if not calibrated and target.static:
        others = "only dynamic schemes were tried" if target.dynamic else "nothing but float was tried"
        claims.append(f"static int8: the recipe has no calibration data, so {others}")
    if not compared_with_torch:
        claims.append("parity with PyTorch: the recipe starts from an ONNX file, so float is that file")
    if not timed:
        least = "the one of fewest instructions" if counted else "the smallest candidate"
        instead = f", and {least} inside the budget ships instead of the fastest" if asked_for_latency else ""
        claims.append(
            f"latency, cold start and memory: {target.name} cannot be timed on this machine; accuracy was computed here by "
            f"integer kernels that do not saturate{instead}"
        )
    return claims
