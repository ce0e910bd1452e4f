"""What the code of a function can reach, read from the source: names are followed through refit,
definition by definition, so an import inside a function counts only where that function is called."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
LAYER = ROOT / "layers/refit"


class Source:
    """One module: its top-level definitions, and what its imported names stand for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tree = ast.parse(path.read_text())
        self.definitions: dict[str, ast.AST] = {}
        for node in self.tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                self.definitions[node.name] = node
        self.imported: dict[str, tuple[str, str]] = {}  # name -> module and the name in it, if any
        for node in ast.walk(self.tree):
            for name, target in _imports(node):
                self.imported[name] = target


@cache
def source(module: str) -> Source | None:
    """A module of refit or a function's file; None for what others wrote."""
    for path in (
        LAYER / f"{module.replace('.', '/')}.py",
        LAYER / f"{module.replace('.', '/')}/__init__.py",
        ROOT / f"functions/{module}.py",
    ):
        if path.is_file():
            return Source(path)
    return None


class Reach:
    """All definitions that can run once `module` is imported and its definitions are called."""

    def __init__(self, module: str) -> None:
        self.nodes: dict[tuple[str, str], ast.AST] = {}  # (module, definition) -> its code
        self.packages: set[str] = set()  # of others
        self._modules: set[str] = set()
        self._load(module)
        found = source(module)
        assert found, module
        for name in found.definitions:
            self._enter(module, name)

    def _load(self, module: str) -> None:
        """Import a module: what stands at its top level runs."""
        if module in self._modules:
            return
        self._modules.add(module)
        found = source(module)
        if found is None:
            self.packages.add(module.partition(".")[0])
            return
        for node in found.tree.body:
            if not isinstance(node, ast.FunctionDef | ast.ClassDef) and not _for_types(node):
                self._walk(module, node)

    def _enter(self, module: str, name: str) -> None:
        found = source(module)
        if found is None or (module, name) in self.nodes:
            return
        if name in found.definitions:
            self.nodes[module, name] = found.definitions[name]
            self._walk(module, found.definitions[name])
        elif name in found.imported:
            self._enter(*found.imported[name])

    def _walk(self, module: str, top: ast.AST) -> None:
        found = source(module)
        assert found
        for node in _code(top):
            for _, (target, name) in _imports(node):
                whole = f"{target}.{name}"
                self._load(whole if source(whole) else target)
            if isinstance(node, ast.Name):
                if node.id in found.definitions:
                    self._enter(module, node.id)
                elif node.id in found.imported:
                    self._enter(*found.imported[node.id])
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                package, name = found.imported.get(node.value.id, ("", ""))
                if package and source(f"{package}.{name}" if name else package):
                    self._enter(f"{package}.{name}" if name else package, node.attr)

    def calls(self, owner: str) -> Iterator[tuple[tuple[str, str], str, ast.Call]]:
        """Calls such as `app.registry.champion(...)` of what is called `owner`: where, method and call."""
        for place, top in self.nodes.items():
            for node in _code(top):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                    base = node.func.value
                    if owner in (getattr(base, "id", ""), getattr(base, "attr", "")):
                        yield place, node.func.attr, node


def _imports(node: ast.AST) -> Iterator[tuple[str, tuple[str, str]]]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield (alias.asname or alias.name.partition(".")[0], (alias.name, ""))
    elif isinstance(node, ast.ImportFrom) and node.module:
        for alias in node.names:
            yield alias.asname or alias.name, (node.module, alias.name)


def _code(top: ast.AST) -> Iterator[ast.AST]:
    """The nodes that run: annotations do not."""
    yield top
    for name, value in ast.iter_fields(top):
        if name in ("annotation", "returns"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not _for_types(child):
                yield from _code(child)


def _for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
