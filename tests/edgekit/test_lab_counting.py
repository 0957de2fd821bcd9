"""The counting plugin without an emulator: its classes of instructions, its caches, what becomes of the lines that it writes."""

import ctypes
from collections import OrderedDict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.labs.emulated import counts as counting
from edgekit.labs.emulated.boards import load_board
from edgekit.labs.emulated.counts import Counter, InstructionMix
from edgekit.labs.emulated.emulator import EmulatedBoard
from edgekit.labs.emulated.folder import Lab
from edgekit.labs.emulated.plugin import FLAGS, build_plugin, compiler, counting_source
from edgekit.labs.emulated.tools import run_tool
from edgekit_runtime.errors import LabError

CLASSES = ("dot", "mmla", "widening_multiply", "float_fma", "other_simd", "load", "store", "branch", "other")
LINES = [
    line.split(maxsplit=2)
    for line in (Path(__file__).parent / "a64_encodings.txt").read_text().splitlines()
    if not line.startswith("#")
]
# What the emulator would bring along.
STUBS = """
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id a, on_translation *b) { (void)a, (void)b; }
void qemu_plugin_register_vcpu_syscall_cb(plugin_id a, on_syscall *b) { (void)a, (void)b; }
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *a, int b, void *c, uint64_t d)
{ (void)a, (void)b, (void)c, (void)d; }
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *a, on_access *b, int c, int d, void *e)
{ (void)a, (void)b, (void)c, (void)d, (void)e; }
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *a) { (void)a; return 0; }
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *a, size_t b) { (void)a, (void)b; return 0; }
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *a) { (void)a; return 0; }
unsigned qemu_plugin_mem_size_shift(uint32_t a) { return a; }
"""


class Entry(ctypes.Structure):
    _fields_ = (("line", ctypes.c_uint64), ("used", ctypes.c_uint64))


class Cache(ctypes.Structure):
    _fields_ = (
        ("sets", ctypes.c_uint64),
        ("ways", ctypes.c_uint64),
        ("misses", ctypes.c_uint64),
        ("entries", ctypes.POINTER(Entry)),
    )


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    program = compiler()
    if program is None:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("plugin")
    (folder / "alone.c").write_text(counting_source() + STUBS)
    run_tool([program, *FLAGS, "-Werror", "-o", str(folder / "alone.so"), str(folder / "alone.c")], "compile the plugin")
    library = ctypes.CDLL(str(folder / "alone.so"))
    library.edgekit_class_of_a64.argtypes = [ctypes.c_uint32]
    library.edgekit_touch.argtypes = [ctypes.POINTER(Cache), ctypes.c_uint64]
    library.edgekit_touch.restype = ctypes.c_bool
    return library


@pytest.mark.parametrize("name", CLASSES)
def test_known_instructions_are_in_their_class(plugin, name):
    words = {text: int(word, 16) for kind, word, text in LINES if kind == name}
    assert len(words) >= 6
    found = {text: CLASSES[plugin.edgekit_class_of_a64(word)] for text, word in words.items()}
    assert found == dict.fromkeys(words, name)


@given(line=st.sampled_from(LINES), destination=st.integers(0, 31), source=st.integers(0, 31))
@settings(max_examples=300, deadline=None)
def test_registers_do_not_change_a_class(plugin, line, destination, source):
    kind, word, text = line
    # Bits 0 to 9 are two registers in all vector arithmetic; a jump or a system instruction has other things there.
    if kind in ("branch", "other") or text.startswith(("ptrue", "whilelo")):
        return
    changed = int(word, 16) & ~0x3FF | source << 5 | destination
    assert CLASSES[plugin.edgekit_class_of_a64(changed)] == kind


@given(word=st.integers(0, 2**32 - 1))
@settings(max_examples=300, deadline=None)
def test_every_word_has_a_class(plugin, word):
    assert 0 <= plugin.edgekit_class_of_a64(word) < len(CLASSES)


@given(
    ways=st.sampled_from([1, 2, 4]),
    sets=st.sampled_from([1, 2, 8]),
    lines=st.lists(st.integers(0, 40), max_size=200),
)
@settings(deadline=None)
def test_a_cache_replaces_what_was_used_longest_ago(plugin, ways, sets, lines):
    entries = (Entry * (sets * ways))()
    cache = Cache(sets, ways, 0, ctypes.cast(entries, ctypes.POINTER(Entry)))
    model = [OrderedDict() for _ in range(sets)]
    misses = 0
    for line in lines:
        held = model[line % sets]
        hit = line in held
        held[line] = held.move_to_end(line) if hit else None
        if len(held) > ways:
            held.popitem(last=False)
        misses += not hit
        assert plugin.edgekit_touch(cache, line) == hit
    assert cache.misses == misses


class Opened:
    def __init__(self, tags):
        self._tags = tags
        self.closed = False

    def count(self, feed, runs):
        assert not feed
        assert len(self._tags) == runs
        return self._tags

    def close(self):
        self.closed = True


class FakeWorker:
    """Stands for the worker under the emulator: it opens anything and tells which marks it made."""

    def __init__(self, tags):
        self.opened = Opened(tags)
        self.asked = {}

    def open(self, path, **options):
        self.asked = {"path": path, **options}
        return self.opened


def write_marks(path, runs):
    """What the plugin writes for runs of so many instructions each, with work of other kinds in between."""
    total, lines = 1_000_000, []
    for index, instructions in enumerate(runs):
        total += 12_345
        lines.append([2 * index, total, *([total] * 9), 0, 0, 0])
        total += instructions
        lines.append([2 * index + 1, total, *([total] * 9), 64 * index, 2 * index, index])
    path.write_text("".join(" ".join(map(str, line)) + "\n" for line in lines))


@pytest.mark.parametrize(("name", "has_mix"), [("raspberry-pi-5", True), ("cpu-x64-avx2", False)])
def test_counts_are_those_of_the_median_run(tmp_path, name, has_mix):
    write_marks(tmp_path / "counts", [130, 100, 102, 99, 101, 180])
    worker = FakeWorker([0, 2, 4, 6, 8, 10])
    board = EmulatedBoard(load_board(name), Lab(tmp_path))
    found = Counter(board, worker, tmp_path / "counts", caches=True).count(tmp_path / "m.onnx", {})
    assert found.instructions == 101
    assert found.spread == pytest.approx(81 / 101)
    assert found.runs == 6
    assert (found.caches.bytes, found.caches.l1_misses, found.caches.l2_misses) == (64 * 4, 8, 4)
    assert found.mix == (InstructionMix(*[101] * 9) if has_mix else None)
    assert worker.asked["path"] == str(tmp_path / "m.onnx")
    assert worker.asked["threads"] == 1
    assert worker.opened.closed


def test_without_modelled_caches_nothing_is_said_of_them(tmp_path):
    write_marks(tmp_path / "counts", [100])
    board = EmulatedBoard(load_board("raspberry-pi-4"), Lab(tmp_path))
    counter = Counter(board, FakeWorker([0]), tmp_path / "counts", caches=False)
    assert counter.count(tmp_path / "m.onnx", {}, runs=1).caches is None


def test_a_line_that_is_not_whole_is_a_missing_mark(tmp_path):
    write_marks(tmp_path / "counts", [100, 100])
    text = (tmp_path / "counts").read_text()
    (tmp_path / "counts").write_text(text[: text.rindex(" ")])
    board = EmulatedBoard(load_board("raspberry-pi-4"), Lab(tmp_path))
    with pytest.raises(LabError, match="count on raspberry-pi-4: the counting plugin saw no mark 3"):
        Counter(board, FakeWorker([0, 2]), tmp_path / "counts", caches=False).count(tmp_path / "m.onnx", {}, runs=2)


def test_without_a_compiler_the_lab_is_numeric_only(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(LabError, match=r"there is no C compiler .* numeric only"):
        build_plugin(Lab(tmp_path))
    monkeypatch.setattr(counting, "unfinished", lambda _: [])
    assert not counting.can_count(load_board("raspberry-pi-4"), Lab(tmp_path))


def test_the_plugin_is_compiled_once_and_for_its_source(tmp_path, monkeypatch):
    if compiler() is None:
        pytest.skip("no C compiler")
    from edgekit.labs.emulated import plugin as module

    first = build_plugin(Lab(tmp_path))
    at = first.stat().st_mtime_ns
    assert build_plugin(Lab(tmp_path)).stat().st_mtime_ns == at
    monkeypatch.setattr(module, "counting_source", lambda: counting_source() + "\n/* changed */\n")
    assert build_plugin(Lab(tmp_path)) != first
    monkeypatch.setattr(module, "counting_source", lambda: "this is no C\n")
    with pytest.raises(LabError, match=r"compile the counting plugin: \w+ ended with 1: .*error"):
        build_plugin(Lab(tmp_path))
    assert len(list(Lab(tmp_path).plugins.iterdir())) == 2
