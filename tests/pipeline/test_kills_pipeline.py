"""A fit that is killed at random moments, and resumed until it is done: the script of the benchmark, a few times."""

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.slow
def test_nothing_is_lost_by_kills_at_random_moments(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    import kills

    found, ended = kills.kills(4, seed=1, folder=tmp_path)
    assert sum(found.values()) == 4
    assert ended >= 1
    sys.modules.pop("kills")
