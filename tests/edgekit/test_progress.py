import io
import re
import sys

import pytest

import edgekit.progress
from edgekit.progress import PlainProgress, Quiet, progress_for


def test_lines_where_there_is_no_terminal(capsys, monkeypatch):
    now = iter([0.0, 1.0, 11.0, 11.0, 12.0, 30.0, 30.0])
    monkeypatch.setattr(edgekit.progress, "monotonic", lambda: next(now))
    with progress_for() as progress:
        assert isinstance(progress, PlainProgress)
        progress.stage("calibrate [a]")
        progress.advance(1, 40)
        progress.advance(2, 40)
        progress.advance(3, 40)
        progress.advance(4, None)
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "calibrate [a]\ncalibrate [a]: 2 of 40\ncalibrate [a]: 4\n"


def test_nothing_where_quiet(capsys):
    with progress_for(quiet=True) as progress:
        assert isinstance(progress, Quiet)
        progress.stage("a")
        progress.advance(1, 2)
    assert capsys.readouterr() == ("", "")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("fails", [False, True])
def test_a_live_line_on_a_terminal(monkeypatch, fails):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("NO_COLOR", raising=False)
    try:
        with progress_for() as progress:
            progress.stage("pack [out]/a.edge")
            progress.advance(3, 7)
            progress.stage("next")
            if fails:
                raise ValueError
            progress.advance(1, None)
    except ValueError:
        pass
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    assert "pack [out]/a.edge" in plain
    assert "✓" in plain
    assert terminal.getvalue().rstrip().endswith("\x1b[?25h")  # the cursor is shown again
