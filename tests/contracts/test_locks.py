"""The layers run on AWS with the versions that the tests run with here."""

import re
from pathlib import Path

import pytest
from packaging.markers import Marker

ROOT = Path(__file__).parents[2]
LAYERS = ("core", "arrow", "ml", "plot")
LAMBDA = {
    "python_version": "3.13",
    "python_full_version": "3.13.0",
    "sys_platform": "linux",
    "platform_machine": "x86_64",
}
LOCKS = [
    ROOT / "requirements/dev.txt",
    ROOT / "requirements/sam.txt",
    ROOT / "requirements/bench.txt",
    *(ROOT / f"layers/{name}/requirements.txt" for name in LAYERS),
]


def blocks(path: Path) -> list[tuple[str, str, str, str]]:
    """Package, version, marker and hashes, as often as the file names it."""
    return re.findall(r"^(\S+)==(\S+)(?: ; (.*?))? \\\n((?: .*\n)+)", path.read_text(), re.M)


def locked(path: Path) -> dict[str, tuple[str, set[str]]]:
    """Package -> version and hashes on Lambda: a lock may have another version for another Python."""
    return {
        name: (version, set(re.findall(r"sha256:[0-9a-f]{64}", hashes)))
        for name, version, marker, hashes in blocks(path)
        if not marker or Marker(marker).evaluate(LAMBDA)
    }


@pytest.mark.parametrize("layer", LAYERS)
def test_layers_have_the_versions_and_files_that_tests_use(layer):
    dev = locked(ROOT / "requirements/dev.txt")
    packages = locked(ROOT / f"layers/{layer}/requirements.txt")
    assert packages
    for name, (version, hashes) in packages.items():
        assert version == dev[name][0], f"{name}: run `make lock`"
        assert hashes <= dev[name][1], f"{name}: run `make lock`"


@pytest.mark.parametrize("layer", LAYERS)
def test_what_a_layer_asks_for_is_in_its_lock(layer):
    asked = re.findall(r"^[a-z0-9_-]+", (ROOT / f"layers/{layer}/requirements.in").read_text(), re.M)
    assert asked
    assert set(asked) <= set(locked(ROOT / f"layers/{layer}/requirements.txt")), "run `make lock`"


@pytest.mark.parametrize("layer", ["arrow", "ml"])
def test_nothing_is_carried_twice(layer):
    """Every function has the core layer; what it carries would be paid for again."""
    core = locked(ROOT / "layers/core/requirements.txt")
    assert not set(core) & set(locked(ROOT / f"layers/{layer}/requirements.txt"))


@pytest.mark.parametrize("package", ["numpy", "pyarrow"])
def test_the_peers_of_the_benchmark_read_with_the_same_versions(package):
    versions = [
        sorted(
            {version for name, version, *_ in blocks(ROOT / f"requirements/{lock}.txt") if name == package}
        )
        for lock in ("dev", "bench")
    ]
    assert versions[0] and versions[0] == versions[1], "run `make lock`"


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: str(path.relative_to(ROOT)))
def test_locks_have_a_hash_for_everything_and_name_no_index(path):
    text = path.read_text()
    found = blocks(path)
    assert len(found) == len(re.findall(r"^\w", text, re.M))
    assert all("--hash=sha256:" in hashes for *_, hashes in found)
    assert "://" not in text
    assert not re.search("^-", text, re.M), "an option, maybe an index"
