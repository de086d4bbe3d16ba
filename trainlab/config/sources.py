"""The user's own code that a config names: what it says is part of a run's identity.

Read, never imported: the modules that the `_target_`s outside torch and trainlab are in, and what
these import from the same package or the same folder, and so on. Comments and blank lines do not
count.
"""

import ast
import functools
import hashlib
import io
import site
import sys
import sysconfig
import tokenize
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any, NamedTuple

_OTHERS = ("torch", "trainlab")  # whose versions a run notes


def own_code(config: dict[str, Any], left_out: Sequence[str] = ()) -> str | None:
    """A digest of the user's own code that a config names, but for what stands under the keys
    `left_out`; None where it names none.

    The same wherever the folder lies, and on every version of Python.
    """
    decisive = {key: value for key, value in config.items() if key not in left_out}
    targets = {t for t in _targets(decisive) if t.partition(".")[0] not in _OTHERS}
    found: dict[str, Path] = {}
    for target in sorted(targets):
        _follow(target, found)
    if not found:
        return None
    digest = hashlib.sha256()
    for name, file in sorted(found.items()):
        changed = file.stat()
        source = _source(file, changed.st_mtime_ns, changed.st_size)
        digest.update(f"{name} {source.digest}\n".encode())
    return digest.hexdigest()[:16]


def _targets(node: Any) -> Iterator[str]:
    """Every `_target_`, at any depth."""
    if isinstance(node, dict):
        if isinstance(node.get("_target_"), str):
            yield node["_target_"]
        node = list(node.values())
    if isinstance(node, list):
        for inner in node:
            yield from _targets(inner)


def _follow(address: str, found: dict[str, Path]) -> None:
    """Add the modules that an address leads through, and all that they import from beside them."""
    places = [str(Path.cwd()), *sys.path]  # where `trusted` code is looked for
    first = PathFinder.find_spec(address.partition(".")[0], places)
    if first is None:
        return
    home = _home(first)
    waiting = [address]
    while waiting:
        for name, spec in _modules(waiting.pop(), home):
            if name in found or spec.origin is None or not Path(spec.origin).is_file():
                continue
            found[name] = file = Path(spec.origin)
            changed = file.stat()
            package = name if spec.submodule_search_locations else name.rpartition(".")[0]
            for imported in _source(file, changed.st_mtime_ns, changed.st_size).imports:
                waiting.append(imported.absolute(package))


class _Home(NamedTuple):
    """Where modules are the user's: a folder, or one package in it."""

    folder: str
    package: str | None  # None: all that lies beside


def _home(spec: ModuleSpec) -> _Home:
    """Of a package that was installed, the neighbours are other people's."""
    places = list(spec.submodule_search_locations or [])
    folder = Path(places[0] if places else spec.origin or ".").parent
    installed = {*site.getsitepackages(), site.getusersitepackages()}
    installed |= {sysconfig.get_path("stdlib"), sysconfig.get_path("purelib")}
    shared = str(folder) in installed or folder.name in ("site-packages", "dist-packages")
    return _Home(str(folder), spec.name if shared else None)


def _modules(address: str, home: _Home) -> Iterator[tuple[str, ModuleSpec]]:
    """The packages and the module that an address begins with, as far as they are the user's."""
    path, name = [home.folder], ""
    for part in address.split("."):
        name = f"{name}.{part}" if name else part
        if home.package and name.partition(".")[0] != home.package:
            return
        spec = PathFinder.find_spec(name, path)
        if spec is None:
            return
        yield name, spec
        path = list(spec.submodule_search_locations or [])
        if not path:
            return


class _Import(NamedTuple):
    name: str
    level: int  # dots in front of it

    def absolute(self, package: str) -> str:
        """
        >>> _Import("b", 1).absolute("mine.a"), _Import("b", 2).absolute("mine.a")
        ('mine.a.b', 'mine.b')
        """
        if not self.level:
            return self.name
        parts = package.split(".")
        return ".".join([*parts[: len(parts) - self.level + 1], self.name])


class _Source(NamedTuple):
    digest: str
    imports: tuple[_Import, ...]


@functools.lru_cache(maxsize=1024)
def _source(file: Path, changed: int, size: int) -> _Source:
    """A file as it was when it changed last."""
    content = file.read_bytes()
    try:
        tree = ast.parse(content)
        encoding = tokenize.detect_encoding(io.BytesIO(content).readline)[0]
        content = _bare(content.decode(encoding)).encode()
    except (SyntaxError, ValueError, tokenize.TokenError):  # compiled, or not Python
        return _Source(hashlib.sha256(content).hexdigest(), ())
    return _Source(hashlib.sha256(content).hexdigest(), tuple(_imports(tree)))


def _imports(tree: ast.AST) -> Iterator[_Import]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (_Import(alias.name, 0) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):  # each may be a name in the module, or a module
            base = f"{node.module}." if node.module else ""
            yield from (_Import(f"{base}{alias.name}", node.level) for alias in node.names)


def _bare(text: str) -> str:
    """A source without its comments, blank lines and blanks at ends of lines; texts keep theirs.

    >>> _bare("a = 1  # one\\n\\n# two\\nb = '#'\\n")
    "a = 1\\nb = '#'"
    """
    lines: list[str | None] = list(text.splitlines())
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        row, column = token.start[0] - 1, token.start[1]
        if row >= len(lines) or lines[row] is None:
            continue
        if token.type == tokenize.COMMENT:
            lines[row] = lines[row][:column]
        if token.type in (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE):
            lines[row] = lines[row].rstrip() or None
    return "\n".join(line for line in lines if line is not None)
