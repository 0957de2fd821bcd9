"""On the device: ``python -m edgekit_runtime {info,run,bench,selftest} BUNDLE [--json]``, and ``worker`` for the build machine."""

import argparse
import json
import os
import sys
from math import isfinite
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime as ort

from edgekit_runtime import __version__
from edgekit_runtime.arrays import read_arrays, write_arrays
from edgekit_runtime.benchmark import benchmark, example_feed
from edgekit_runtime.errors import EdgekitError
from edgekit_runtime.machine import machine
from edgekit_runtime.model import Model, load
from edgekit_runtime.preprocessing import outside_calibration
from edgekit_runtime.selftest import SelfTest, selftest


def info(model: Model, _: argparse.Namespace) -> dict[str, Any]:
    """What a bundle is and what it runs on here."""
    described: dict[str, Any] = {
        "path": str(model.path),
        "inputs": [str(spec) for spec in model.inputs],
        "outputs": [str(spec) for spec in model.outputs],
        "provider": model.provider,
        "fallback_reason": model.fallback_reason,
        "threads": model.threads,
        "machine": msgspec.to_builtins(machine()),
        "versions": {"edgekit_runtime": __version__, "onnxruntime": ort.__version__, "numpy": np.__version__},
    }
    if model.manifest is not None:
        chosen = model.manifest.chosen
        described |= {
            "name": model.manifest.name,
            "target": model.manifest.target,
            "created": model.manifest.created,
            "verdict": chosen.verdict,
            "chosen": {"name": chosen.name, **msgspec.to_builtins(chosen.measurement)},
            "reason": chosen.reason,
            "certified": chosen.certified,
        }
    return described


def run(model: Model, arguments: argparse.Namespace) -> dict[str, Any]:
    """Runs the model once on the arrays of an ``.npz`` file, or on its own example."""
    feed = read_arrays(arguments.input) if arguments.input else example_feed(model)
    outputs = model(feed)
    for warning in outside_calibration(model.manifest, feed):
        sys.stderr.write(f"warning: {warning}\n")
    if arguments.output:
        write_arrays(arguments.output, outputs)
    return {
        "outputs": {name: summary(array) for name, array in outputs.items()},
        "saved": str(arguments.output) if arguments.output else None,
    }


def bench(model: Model, arguments: argparse.Namespace) -> dict[str, Any]:
    """Latency, cold start, memory and size on this machine."""
    feed = read_arrays(arguments.input) if arguments.input else example_feed(model)
    return dict(msgspec.to_builtins(benchmark(model, feed, rounds=arguments.rounds)))


def prove(model: Model, _: argparse.Namespace) -> dict[str, Any]:
    """The golden examples against what the build machine saw."""
    return dict(msgspec.to_builtins(selftest(model)))


def summary(output: Any) -> dict[str, Any]:
    """Shape, dtype and the first values of an output, as JSON can hold them."""
    if not isinstance(output, np.ndarray):  # a sequence or a map
        return {"type": type(output).__name__, "length": len(output)}
    first = output.ravel()[:10].tolist()
    values = [value if not isinstance(value, float) or isfinite(value) else None for value in first]
    return {"shape": list(output.shape), "dtype": str(output.dtype), "first": values}


def positive(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def plain(document: dict[str, Any], indent: str = "") -> str:
    """A document as lines for a person."""
    lines = []
    for key, value in document.items():
        if isinstance(value, dict):
            lines += [f"{indent}{key}:", plain(value, indent + "  ")]
        else:
            lines.append(f"{indent}{key}: {value}")
    return "\n".join(lines)


def say(text: str) -> None:
    """Writes to standard output, with escapes for what its encoding does not have (JSON is ASCII already)."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    sys.stdout.flush()


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m edgekit_runtime", description="Run edgekit bundles on this device.")
    top.add_argument("--version", action="version", version=__version__)
    verbs = top.add_subparsers(required=True, metavar="{info,run,bench,selftest,worker}")
    verbs.add_parser("worker", help="Serves the build machine on standard input and output.").set_defaults(function=None)
    for name, function in (("info", info), ("run", run), ("bench", bench), ("selftest", prove)):
        verb = verbs.add_parser(name, help=(function.__doc__ or "").strip())
        verb.set_defaults(function=function)
        verb.add_argument("bundle", type=Path, help="a NAME.edge directory, or a plain .onnx file")
        verb.add_argument("--json", action="store_true", help="print one JSON document on standard output")
        verb.add_argument("--threads", type=positive, help="intra-op threads (default: what this process may use)")
        verb.add_argument("--provider", help="another execution provider than the bundle's, taken strictly")
        verb.add_argument("--fallback", help="a provider to accept where the other cannot be had")
        verb.add_argument("--any-isa", action="store_true", help="open it even where its figures do not hold")
        if function in (run, bench):
            verb.add_argument("--input", type=Path, help=".npz file of inputs by name (default: the golden example)")
        if function is run:
            verb.add_argument("--output", type=Path, help="write the outputs to this .npz file")
        if function is bench:
            verb.add_argument("--rounds", type=positive, default=25, help="rounds of about 10 ms (default: 25)")
    return top


def main(argv: list[str] | None = None) -> int:
    """Runs one verb; 0 done, 1 the user's problem in one line, 2 wrong usage.

    A self-test that fails still prints what it saw, and its exit status is 1.
    """
    arguments = parser().parse_args(argv)
    if arguments.function is None:
        from edgekit_runtime.worker import main as work  # nobody else needs it

        return work()
    try:
        model = load(
            arguments.bundle,
            provider=arguments.provider,
            threads=arguments.threads,
            fallback=arguments.fallback,
            # Describing a bundle is safe anywhere.
            check_isa=not arguments.any_isa and arguments.function is not info,
        )
        if model.fallback_reason:
            sys.stderr.write(f"warning: {model.fallback_reason}; running on {model.provider}\n")
        document = arguments.function(model, arguments)
        # NaN and infinity have no JSON and may not come this far.
        say(json.dumps(document, allow_nan=False) if arguments.json else plain(document))
        if arguments.function is prove:
            msgspec.convert(document, SelfTest).require(str(arguments.bundle))
    except EdgekitError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return 1
    except BrokenPipeError:
        # Whoever read this has gone: nothing is left to say, not even while Python closes standard output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
