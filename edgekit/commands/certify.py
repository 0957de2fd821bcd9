"""Certify: one bundle evaluated on several kinds of processor, and what came out written into it."""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from edgekit.progress import Progress, Quiet
from edgekit.recipe import Arrays, Recipe, Run
from edgekit.recipe_file import load_recipe
from edgekit.search.ledger import ledger_folder
from edgekit_runtime.certificate import Certificate
from edgekit_runtime.errors import BundleError, EvaluationError, RecipeError

if TYPE_CHECKING:
    from edgekit.certificate.certifying import Subject
    from edgekit.labs.place import Place
    from edgekit_runtime.manifest import Manifest

__all__ = ["PLACE_BUDGET_S", "Certificates", "certify"]

PLACE_BUDGET_S = 60.0
DEFAULT_MAX_DROP = 0.01
FLOAT_FILE = "float.onnx"


class Certificates(msgspec.Struct, frozen=True, kw_only=True):
    """What `certify` gives.

    Attributes:
        bundle: The bundle's path.
        max_drop: The budget that rows were judged by.
        rows: A row for each place, in the order asked for.
    """

    bundle: str
    max_drop: float
    rows: list[Certificate]

    @property
    def failed(self) -> list[Certificate]:
        """Rows of places where the bundle may not be used."""
        return [row for row in self.rows if row.status == "failed"]

    def document(self) -> dict[str, Any]:
        """The JSON document of ``edgekit certify --json``."""
        rows = [{**msgspec.to_builtins(row), "fusion": row.fusion} for row in self.rows]
        return {"bundle": self.bundle, "max_drop": self.max_drop, "passed": not self.failed, "certificates": rows}


def certify(
    bundle: str | Path,
    *,
    isa: Sequence[str] = ("host",),
    recipe: Recipe | str | Path | None = None,
    max_drop: float | None = None,
    examples: int | None = None,
    place_budget_s: float = PLACE_BUDGET_S,
    progress: Progress | None = None,
) -> Certificates:
    """Runs a bundle's evaluation on several kinds of processor, and writes a row for each into its manifest and its report.

    Each place gets as many of the recipe's examples as its time allows, drawn at random once, at least thirty; every row says how
    many. Float predictions are this machine's, on the same examples. Without a recipe the bundle's golden examples are
    run, and the metric is not claimed. Outputs are kept in the cache folder as they come: a run that was killed goes on there.

    Args:
        bundle: The bundle.
        isa: Places: ``host``, names of emulated boards (`edgekit lab list`), or of devices (`edgekit device list`).
        recipe: Where examples, metric and the float model come from.
        max_drop: What the metric may lose; by default what the bundle was deployed with.
        examples: How many examples at each place, instead of what fits into the time.
        place_budget_s: Seconds for the evaluation at each place.
        progress: Told what is going on.

    Raises:
        BundleError: The bundle is damaged, or none.
        DeviceError: A place is unknown, is not set up, or cannot be reached.
        RecipeError: The recipe's model is not the bundle's.
    """
    from edgekit.certificate.certifying import certify_at
    from edgekit.labs.place import find_place
    from edgekit_runtime.bundle import check_files, is_bundle, read_manifest

    progress = progress or Quiet()
    path = Path(bundle)
    if not is_bundle(path):
        raise BundleError(f"certify {bundle}: it is no bundle; certificates are written into one, such as edgekit deploy makes")
    manifest = read_manifest(path)
    check_files(path, manifest)
    if not isa:
        raise EvaluationError(f"certify {bundle}: no place was named; give --isa host,raspberry-pi-5")
    if examples is not None and examples < 1:
        raise EvaluationError(f"certify {bundle}: examples={examples}, expected 1 or more")
    places = [find_place(name, progress) for name in dict.fromkeys(isa)]
    budget = max_drop if max_drop is not None else manifest.chosen.max_drop
    budget = DEFAULT_MAX_DROP if budget is None else budget
    subject = _subject(path, manifest, recipe, budget, examples, place_budget_s, progress)
    rows = [_counted(certify_at(subject, place, progress), place, subject, progress) for place in places]
    _write(path, manifest, rows)
    return Certificates(bundle=str(bundle), max_drop=budget, rows=rows)


def _subject(
    path: Path,
    manifest: "Manifest",
    recipe: Recipe | str | Path | None,
    max_drop: float,
    examples: int | None,
    budget_s: float,
    progress: Progress,
) -> "Subject":
    import onnxruntime as ort

    from edgekit.certificate.certifying import Subject
    from edgekit.certificate.evaluating import kept_at
    from edgekit.certificate.kept_outputs import KeptOutputs
    from edgekit.evaluation import Evaluation
    from edgekit.labs.host import HostLab
    from edgekit_runtime.arrays import read_arrays
    from edgekit_runtime.selftest import GOLDEN, unpack_golden

    folder = ledger_folder().parent / "certificates"
    golden, floats, _ = unpack_golden(read_arrays(path / GOLDEN))
    loaded = recipe if recipe is None or isinstance(recipe, Recipe) else load_recipe(recipe)
    evaluation = Evaluation(loaded) if loaded and loaded.evaluation and loaded.metric else None
    sha = manifest.files[manifest.model].sha256
    file = path / manifest.model

    def exact() -> Run:
        return HostLab(exact=True).open(file, manifest.provider, manifest.session)

    exact_run = KeptOutputs(kept_at(folder, "exact", sha, manifest.session, ort.__version__), exact)
    if evaluation is None:
        float_run: Run = _golden_floats(golden, floats)
    else:
        assert loaded is not None  # or there were no evaluation
        float_run = _float_model(loaded, manifest, folder, progress)
    return Subject(path, manifest, max_drop, evaluation, float_run, exact_run, golden, examples, budget_s, folder)


def _golden_floats(golden: Sequence[Arrays], floats: Sequence[Arrays]) -> Callable[[Arrays], Arrays]:
    """The float model, as far as the bundle knows it: its outputs on the golden inputs."""

    def run(feed: Arrays) -> Arrays:
        return next(own for inputs, own in zip(golden, floats, strict=True) if inputs is feed)

    return run


def _float_model(recipe: Recipe, manifest: "Manifest", folder: Path, progress: Progress) -> Run:
    """The recipe's model in float on this machine, traced once a content; its outputs are kept as all others are."""
    import onnxruntime as ort

    from edgekit.certificate.evaluating import kept_at
    from edgekit.certificate.kept_outputs import KeptOutputs
    from edgekit.source import source_of
    from edgekit.target import load_target
    from edgekit_runtime.bundle import file_entry
    from edgekit_runtime.model import load

    fixed = manifest.target in _builtin_targets() and load_target(manifest.target).fixed_shapes
    source = source_of(recipe, progress, fixed_shapes=fixed)
    if [spec.name for spec in source.prepared.inputs] != [spec.name for spec in manifest.inputs]:
        theirs, own = (", ".join(spec.name for spec in specs) for specs in (source.prepared.inputs, manifest.inputs))
        raise RecipeError(
            f"certify {manifest.name}: recipe {recipe.name} takes {theirs}, the bundle {own}; give the bundle's recipe"
        )
    folder.mkdir(parents=True, exist_ok=True)
    # By its content: another run of the same recipe's name may trace another model meanwhile.
    with tempfile.TemporaryDirectory(prefix=".aside-", dir=folder) as aside:
        made = Path(aside) / "float"
        made.mkdir()
        source.prepared.save(made / FLOAT_FILE)
        shas = [file_entry(file).sha256 for file in sorted(made.iterdir())]
        kept = kept_at(folder, "float", shas, ort.__version__)
        home = kept.with_suffix(".float")
        if not home.exists():
            made.rename(home)
    return KeptOutputs(kept, lambda: load(home / FLOAT_FILE))


def _builtin_targets() -> list[str]:
    from edgekit.target import target_names

    return target_names()


def _counted(row: Certificate, place: "Place", subject: "Subject", progress: Progress) -> Certificate:
    """The row with instructions per call, where the place is emulated and can count."""
    if place.kind != "emulated" or not row.examples:
        return row
    from edgekit.labs.emulated.counts import can_count, count
    from edgekit.labs.emulated.emulator import EmulatedBoard

    assert isinstance(place, EmulatedBoard)  # nothing else is emulated
    if not can_count(place.board):
        return row
    progress.stage(f"count instructions on {place.name}")
    manifest = subject.manifest
    counts = count(place.board, subject.bundle / manifest.model, subject.golden[0], manifest.provider, manifest.session)
    return msgspec.structs.replace(row, instructions=counts.instructions)


def _write(path: Path, manifest: "Manifest", rows: Sequence[Certificate]) -> None:
    """Writes the rows into the bundle, instead of earlier ones of the same places; the bundle is swapped in whole."""
    from edgekit.report.certificates import with_certificates
    from edgekit_export.swap import swap_in, translated_write_errors, workspace
    from edgekit_runtime.bundle import file_entry
    from edgekit_runtime.manifest import MANIFEST, encode_manifest

    named = {row.isa for row in rows}
    kept = [*(row for row in manifest.certificates if row.isa not in named), *rows]
    with workspace(path) as folder:
        aside = folder / "bundle"
        with translated_write_errors(path):
            shutil.copytree(path, aside)
            report = aside / "report.html"
            if report.exists():
                report.write_text(with_certificates(report.read_text(encoding="utf-8"), kept), encoding="utf-8")
            files = {name: file_entry(aside / name) for name in manifest.files}
            changed = msgspec.structs.replace(manifest, certificates=kept, files=files)
            (aside / MANIFEST).write_bytes(encode_manifest(changed))
        swap_in(aside, path)
