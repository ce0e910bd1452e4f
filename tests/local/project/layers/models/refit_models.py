from pathlib import Path


def names() -> list[str]:
    return sorted(p.name for p in Path(__file__).parent.iterdir() if p.is_dir() and p.name != "__pycache__")
