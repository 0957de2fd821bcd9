"""The model wrapper: opens a bundle (or a plain ``.onnx`` file) and calls it with its inputs checked.

What opening needs is imported by `load`, not by this module: msgspec, hashlib and pathlib cost several times what all of
this costs, and a program should pay for them when it opens a model, not when it starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort

from edgekit_runtime.errors import BundleError, SessionError

if TYPE_CHECKING:
    from pathlib import Path

    from edgekit_runtime.manifest import Manifest
    from edgekit_runtime.session import OpenSession, Provider
    from edgekit_runtime.tensors import TensorSpec

__all__ = ["Model", "load"]


class Model:
    """An open model. Call it with arrays in order, by name, or with one dict; it gives a dict of arrays.

    Attributes:
        inputs: What it takes.
        outputs: What it gives.
        provider: The execution provider that it really runs on.
        threads: Intra-op threads.
        fallback_reason: Why `provider` is not the one the bundle asks for; ``None`` when it is.
        provider_options: Options that the provider was given.
        session_config: Session options as they were asked for.
        manifest: The bundle's manifest; ``None`` for a plain model file.
        path: Where it was opened from.
        session: onnxruntime's session below.
    """

    def __init__(self, opened: OpenSession, path: Path, manifest: Manifest | None = None) -> None:
        from edgekit_runtime.tensors import FeedCheck

        self.session = opened.session
        self.provider = opened.provider
        self.threads = opened.threads
        self.fallback_reason = opened.fallback_reason
        self.provider_options = opened.provider_options
        self.session_config = opened.config
        self.path = path
        self.manifest = manifest
        self.inputs = _specs(opened.session.get_inputs())
        self.outputs = _specs(opened.session.get_outputs())
        # onnxruntime tells no shape both for a scalar and for an input without a rank; a bundle's inputs have one.
        unranked = () if manifest else tuple(spec.name for spec in self.inputs if not spec.shape)
        self._check = FeedCheck(self.inputs, unranked)
        self._names = [output.name for output in self.outputs]
        # onnxruntime's own Python layer checks the names again and, on failure, tries other providers, which is switched
        # off here: it takes longer than everything that this class does. The call below it has the same arguments.
        self._run = getattr(opened.session, "_sess", opened.session).run

    def __call__(self, /, *arrays: Any, **named: Any) -> dict[str, np.ndarray]:
        """Runs the model once.

        Raises:
            InputError: The inputs do not fit; says which, what it got and what it takes.
            SessionError: onnxruntime failed while running.
        """
        # The exact type first: an isinstance check against Mapping costs a third of a call's whole overhead.
        if len(arrays) == 1 and not named and (type(arrays[0]) is dict or isinstance(arrays[0], Mapping)):
            feed = arrays[0] if type(arrays[0]) is dict else dict(arrays[0])  # old releases of onnxruntime take a dict only
        else:
            feed = self._check.gather(arrays, named)
        self._check.check(feed)
        try:
            return dict(zip(self._names, self._run(self._names, feed, None), strict=True))
        except Exception as error:
            from edgekit_runtime.session import short_reason

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
    from pathlib import Path

    import msgspec

    from edgekit_runtime.session import Provider, SessionConfig, open_session

    path = Path(path)
    asked = Provider(provider) if isinstance(provider, str) else provider
    if threads is not None and threads < 1:
        raise SessionError(f"open {path}: threads={threads}, expected 1 or more, or nothing for this machine's own")
    try:
        plain = path.is_file()
    except OSError as error:
        raise BundleError(f"open {path}: it cannot be reached: {error.strerror or error}") from error
    if plain:
        return Model(open_session(path, asked, SessionConfig(threads=threads), fallback), path)

    from edgekit_runtime.bundle import check_files, read_manifest

    manifest = read_manifest(path)
    check_files(path, manifest)
    _check_release(path, manifest)
    if check_isa:
        _check_isa(path, manifest)
    config = msgspec.structs.replace(manifest.session, threads=threads or manifest.session.threads)
    opened = open_session(path / manifest.model, asked or manifest.provider, config, fallback)
    model = Model(opened, path, manifest)
    for verb, found, promised in (("takes", model.inputs, manifest.inputs), ("gives", model.outputs, manifest.outputs)):
        if len(found) != len(promised) or not all(map(_agree, found, promised)):
            raise BundleError(
                f"open {path}: {manifest.model} {verb} {'; '.join(map(str, found))}, the manifest promises "
                f"{'; '.join(map(str, promised))}; deploy it again"
            )
    return model


def _agree(found: TensorSpec, promised: TensorSpec) -> bool:
    """Whether a model's own spec and the manifest's are of one tensor; names of free axes may differ."""
    # onnxruntime tells no shape for an output whose rank it does not know.
    sizes_agree = not found.shape or (
        len(found.shape) == len(promised.shape)
        and all(
            left == right or isinstance(left, str) or isinstance(right, str)
            for left, right in zip(found.shape, promised.shape, strict=True)
        )
    )
    return (found.name, found.dtype) == (promised.name, promised.dtype) and sizes_agree


def _check_isa(path: Path, manifest: Manifest) -> None:
    from edgekit_runtime.machine import machine, missing_isa

    missing = missing_isa(manifest.isa)
    if missing:
        raise BundleError(
            f"open {path}: it was made for {manifest.target}; on {machine().architecture}, {manifest.chosen.name} needs "
            f"{', '.join(missing)} to compute what was measured, and this machine has {', '.join(machine().isa) or 'none of it'}; "
            "deploy for a target like this machine, or open it all the same with --any-isa (in Python: check_isa=False)"
        )


def _check_release(path: Path, manifest: Manifest) -> None:
    def release(version: str) -> tuple[int, ...]:
        return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())

    if release(ort.__version__) < release(manifest.onnxruntime):
        raise BundleError(
            f"open {path}: the model needs onnxruntime {manifest.onnxruntime} or newer, this is {ort.__version__}; "
            f"pip install 'onnxruntime>={manifest.onnxruntime}'"
        )


def _specs(nodes: list[Any]) -> tuple[TensorSpec, ...]:
    from edgekit_runtime.tensors import TensorSpec, dtype_from_onnxruntime

    return tuple(
        TensorSpec(
            node.name,
            dtype_from_onnxruntime(node.type),
            tuple(axis if isinstance(axis, int) else str(axis or f"{node.name}_{index}") for index, axis in enumerate(node.shape)),
        )
        for node in nodes
    )
