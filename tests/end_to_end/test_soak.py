"""The soak in small: every upload accounted for, though events repeat, are shuffled and get lost."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from refit_cli.soak.files import FAULTS, drops
from refit_cli.soak.run import soak


def test_every_upload_is_accounted_for(tmp_path: Path) -> None:
    """The tick finds what no event told of; a hundred copies of a wish are one run; predict answers throughout."""
    figures = soak(60, seed=1, say=print, log_dir=tmp_path, by_hand=True)
    assert figures.breaches == []
    assert (figures.uploads, figures.bad, figures.lost) == (60, 12, 3)
    assert figures.promotions >= 1


def test_the_same_seed_makes_the_same_files() -> None:
    """A fifth is bad in all the ways there are; one in twenty is never told of."""
    made = drops(240, seed=7, turns=4)
    assert made == drops(240, seed=7, turns=4)
    assert made != drops(240, seed=8, turns=4)
    assert sum(drop.lost for drop in made) == 12
    wrong = Counter((drop.outcome, drop.code) for drop in made if drop.code)
    assert set(wrong) == set(FAULTS.values()) and wrong.total() == 48
    good = [drop for drop in made if not drop.code]
    assert len({drop.key for drop in made}) < 240
    assert len({drop.content for drop in good}) < len(good)
