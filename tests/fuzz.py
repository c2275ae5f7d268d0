"""``python -m tests.fuzz [--seconds N]``: random bytes at HTTP/1.1, then at HTTP/2, N seconds each.

The usual test run draws the same examples every time; this one draws others. It runs the property tests of
the readers and of the running proxy again and again, each time from a seed that it prints, until the time is
over or a test fails. A failure is repeated with the seed that was printed, and its input belongs in the
tables of `tests/integration/http` (HTTP/1.1) or beside the tests (HTTP/2), which every run replays.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from secrets import randbelow

__all__ = ("main",)

_TARGETS = {
    "HTTP/1.1": ("tests/property/test_request_reader.py", "tests/property/test_live_proxy.py"),
    "HTTP/2": (
        "tests/property/test_http2_garbage.py",
        "tests/property/test_http2_differential.py",
        "tests/property/test_http2_dialogue.py",
        "tests/property/test_http2_parts.py",
    ),
}


def _command(files: tuple[str, ...], seed: int) -> list[str]:
    # Hundreds of examples, on whatever machine: one that hangs is what is to be found.
    patience = ("--timeout", "900")
    options = ("-q", "--no-header", "-p", "no:cacheprovider", "-k", "not corpus", *patience)
    profile = ("--hypothesis-profile=fuzz", f"--hypothesis-seed={seed}")
    return [sys.executable, "-m", "pytest", *options, *profile, *files]


def _fuzz(name: str, files: tuple[str, ...], seconds: float) -> int:
    until, rounds = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        command = _command(files, randbelow(1 << 32))
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.stdout.write(f"{done.stdout}\n{name}: repeat with\n  {' '.join(command)}\n")
            return done.returncode
        rounds += 1
    sys.stdout.write(f"{name}: {rounds} rounds in {seconds:g} s, nothing found\n")
    return 0


def main() -> int:
    """The exit code: 0, or that of the tests that failed."""
    parser = argparse.ArgumentParser(description="Random input, other than that of the usual test run.")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each protocol (default 60)")
    seconds = parser.parse_args().seconds
    return next(filter(None, (_fuzz(name, files, seconds) for name, files in _TARGETS.items())), 0)


if __name__ == "__main__":
    sys.exit(main())
