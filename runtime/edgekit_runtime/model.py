"""The model wrapper: opens a bundle (or a plain ``.onnx`` file) and calls it with its inputs checked."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from edgekit_runtime.bundle import check_files, read_manifest
from edgekit_runtime.errors import BundleError, SessionError
from edgekit_runtime.machine import machine, missing_isa
from edgekit_runtime.manifest import Manifest
from edgekit_runtime.session import OpenSession, Provider, SessionConfig, open_session, short_reason
from edgekit_runtime.tensors import FeedCheck, TensorSpec, dtype_from_onnxruntime

__all__ = ["Model", "load"]


class Model:
    """An open model. Call it with arrays in order, by name, or with one dict; it gives a dict of arrays.

    Attributes:
        inputs: What it takes.
        outputs: What it gives.
        provider: The execution provider that it really runs on.
        threads: Intra-op threads.
        fallback_reason: Why `provider` is not the one the bundle asks for; ``None`` when it is.
        manifest: The bundle's manifest; ``None`` for a plain model file.
        path: Where it was opened from.
        session: onnxruntime's session below.
    """

    def __init__(self, opened: OpenSession, path: Path, manifest: Manifest | None = None) -> None:
        self.session = opened.session
        self.provider = opened.provider
        self.threads = opened.threads
        self.fallback_reason = opened.fallback_reason
        self.path = path
        self.manifest = manifest
        self.inputs = _specs(opened.session.get_inputs())
        self.outputs = _specs(opened.session.get_outputs())
        self._check = FeedCheck(self.inputs)
        self._names = [output.name for output in self.outputs]
        self._run = opened.session.run

    def __call__(self, *arrays: Any, **named: Any) -> dict[str, np.ndarray]:
        """Runs the model once.

        Raises:
            InputError: The inputs do not fit; says which, what it got and what it takes.
            SessionError: onnxruntime failed while running.
        """
        feed = arrays[0] if len(arrays) == 1 else None
        # The exact type first: an isinstance check against Mapping costs a third of a call's whole overhead.
        if not named and (type(feed) is dict or isinstance(feed, Mapping)):
            pass
        else:
            feed = self._check.gather(arrays, named)
        self._check.check(feed)
        try:
            return dict(zip(self._names, self._run(self._names, feed), strict=True))
        except Exception as error:
            shapes = {name: list(array.shape) for name, array in feed.items()}
            raise SessionError(f"run {self.path.name} with shapes {shapes}: {short_reason(error)}") from error

    def __repr__(self) -> str:
        inputs, outputs = ("; ".join(map(str, specs)) for specs in (self.inputs, self.outputs))
        return f"Model({self.path.name}: {inputs} -> {outputs}, {self.provider}, {self.threads} threads)"


def load(
    path: str | Path,
    *,
    provider: Provider | str | None = None,
    threads: int | None = None,
    fallback: str | None = None,
    check_isa: bool = True,
) -> Model:
    """Opens a bundle, or a plain ``.onnx`` or ``.ort`` file.

    A bundle's files are checked against its manifest before onnxruntime reads a byte of them.

    Args:
        path: A ``NAME.edge`` directory or a model file.
        provider: Another execution provider than the bundle's; taken strictly.
        threads: Intra-op threads; by default what affinity and the container's quota leave to this process.
        fallback: A provider to accept, and to report in ``Model.fallback_reason``, where the other cannot be had.
        check_isa: Refuse a bundle whose figures do not hold on this machine's instruction sets.

    Raises:
        BundleError: The bundle is damaged, incomplete, unsafe, too new, or measured for other instruction sets.
        ProviderError: The provider cannot be had.
        SessionError: onnxruntime could not open the model.
    """
    path = Path(path)
    asked = Provider(provider) if isinstance(provider, str) else provider
    if threads is not None and threads < 1:
        raise SessionError(f"open {path}: threads={threads}, expected 1 or more, or nothing for this machine's own")
    if path.is_file():
        return Model(open_session(path, asked, SessionConfig(threads=threads), fallback), path)
    manifest = read_manifest(path)
    check_files(path, manifest)
    _check_release(path, manifest)
    missing = missing_isa(manifest.isa) if check_isa else []
    if missing:
        raise BundleError(
            f"open {path}: {manifest.chosen.name} needs {', '.join(missing)} to compute what was measured, and this "
            f"{machine().architecture} has {', '.join(machine().isa) or 'none of it'}; deploy for a target like this "
            "machine, or pass check_isa=False and run the self-test"
        )
    config = SessionConfig(threads or manifest.session.threads, manifest.session.graph_optimization, manifest.session.entries)
    opened = open_session(path / manifest.model, asked or manifest.provider, config, fallback)
    model = Model(opened, path, manifest)
    if [spec.name for spec in model.inputs] != [spec.name for spec in manifest.inputs]:
        raise BundleError(f"open {path}: {manifest.model} takes {model.inputs}, the manifest promises {manifest.inputs}")
    return model


def _check_release(path: Path, manifest: Manifest) -> None:
    def release(version: str) -> tuple[int, ...]:
        return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())

    if release(ort.__version__) < release(manifest.onnxruntime):
        raise BundleError(
            f"open {path}: the model needs onnxruntime {manifest.onnxruntime} or newer, this is {ort.__version__}; "
            f"pip install 'onnxruntime>={manifest.onnxruntime}'"
        )


def _specs(nodes: list[Any]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            node.name,
            dtype_from_onnxruntime(node.type),
            tuple(
                axis if isinstance(axis, int) else str(axis or f"{node.name}_{index}") for index, axis in enumerate(node.shape)
            ),
        )
        for node in nodes
    )
