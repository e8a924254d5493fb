"""Reads the modules of a Rust crate: the names in each module's code, and the length of each function.

This is not a Rust parser. It recognizes comments, literals, nested braces, `use` trees and paths, which is enough for
the rules in layout_rules.py. Code for tests (`#[cfg(test)]`, and modules behind the feature `testing`) is left out.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

TEST_ONLY = r"#\[cfg\((?:test|feature = \"testing\"|any\(test, feature = \"testing\"\)|all\(test, [^\]]*\))\)\]"
# Comments and literals. Their order matters: the first alternative that matches is used. A lifetime such as 'a is no
# literal.
TOKENS = re.compile(
    r"""
    (?P<comment>//[^\n]*|/\*)
    | (?P<raw>\bb?r(?P<hashes>\#*)".*?"(?P=hashes))
    | (?P<string>b?"(?:\\.|[^"\\])*")
    | (?P<char>b?'(?:\\(?:x[0-9a-fA-F]{2}|u\{[^}]*\}|.)|[^'\\])')
    """,
    re.VERBOSE | re.DOTALL,
)
FUNCTION = re.compile(r"\bfn\s+(\w+)")
USE = re.compile(r"(?P<visibility>pub(?:\([^)]*\))?\s+)?\buse\s+(?P<tree>[^;]+);")
PATH = re.compile(r"(?<![\w:.])(?:r#)?(\w+)((?:\s*::\s*(?:r#)?\w+)+)")
# The head of any `impl` block. `_methods_elsewhere` skips the blocks of the form `impl Trait for Name`.
INHERENT_IMPL = re.compile(r"\bimpl\b(?P<head>[^{;]*)\{")
DEFINITION = re.compile(r"\b(?:struct|enum|union|type|trait|const|static|fn|macro_rules!)\s+(\w+)")


def code_of(text: str, *, keep_strings: bool = False) -> str:
    """Returns the text with blanks in place of comments and, without `keep_strings`, of literals. Line breaks stay."""
    parts, end = [], 0
    while found := TOKENS.search(text, end):
        start, stop = found.span()
        if found["comment"] == "/*":
            stop = _end_of_comment(text, start)
        parts.append(text[end:start])
        kept = keep_strings and not found["comment"]
        parts.append(text[start:stop] if kept else _blank(text[start:stop]))
        end = stop
    return "".join([*parts, text[end:]])


def _blank(text: str) -> str:
    return re.sub(r"[^\n]", " ", text)


def _end_of_comment(text: str, start: int) -> int:
    depth, place = 0, start
    while place < len(text):
        if text.startswith("/*", place):
            depth, place = depth + 1, place + 2
        elif text.startswith("*/", place):
            depth, place = depth - 1, place + 2
            if depth == 0:
                return place
        else:
            place += 1
    return len(text)


def end_of_item(code: str, start: int) -> int:
    """Returns the index after an item: after its closing brace, or after its semicolon if the item has no body."""
    depth = 0
    for place in range(start, len(code)):
        match code[place]:
            case "(" | "[":
                depth += 1
            case ")" | "]":
                depth -= 1
            case ";" if depth == 0:
                return place + 1
            case "{":
                return end_of_block(code, place)
    return len(code)


def end_of_block(code: str, start: int) -> int:
    """Returns the index after the brace that closes the opening brace at `start`."""
    depth = 0
    for place in range(start, len(code)):
        depth += {"{": 1, "}": -1}.get(code[place], 0)
        if depth == 0:
            return place + 1
    return len(code)


def without_tests(text: str) -> str:
    """Returns the code in the text, with blanks in place of the items that are for tests only."""
    code, marked = code_of(text), code_of(text, keep_strings=True)
    for found in re.finditer(TEST_ONLY, marked):
        start = found.start()
        stop = end_of_item(code, found.end())
        code = code[:start] + _blank(code[start:stop]) + code[stop:]
    return code


def functions_of(text: str) -> Iterator[tuple[str, int]]:
    """Yields the name and the number of lines of each function in a Rust file, including functions for tests."""
    code = code_of(text)
    for found in FUNCTION.finditer(code):
        stop = end_of_item(code, found.end())
        yield found[1], code.count("\n", found.start(), stop) + 1


ModulePath = tuple[str, ...]


@dataclass
class Module:
    """A module of a crate: either a whole file, or a `mod name { … }` block in a file."""

    path: ModulePath
    # The path of the module that the whole file forms. A dependency of an inner module is a dependency of its file.
    file: ModulePath
    code: str
    # The names that the module imports, each with the path in its `use` declaration.
    names: dict[str, ModulePath] = field(default_factory=dict)
    # The names of the items that the module defines.
    defined: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.defined = set(DEFINITION.findall(USE.sub(" ", self.code)))
        for _, tree in _declarations(self.code):
            self.names |= {name: path for name, path in _leaves(tree) if name not in ("*", "_")}

    def __str__(self) -> str:
        return "::".join(self.file) or "lib"


def inner_modules(path: ModulePath, file: ModulePath, code: str) -> Iterator[Module]:
    """Yields the modules inside this code, and then the module that the rest of the code forms."""
    while found := re.search(r"\bmod\s+(\w+)\s*\{", code):
        brace = found.end() - 1
        stop = end_of_block(code, brace)
        yield from inner_modules((*path, found[1]), file, code[brace + 1 : stop - 1])
        code = code[: found.start()] + _blank(code[found.start() : stop]) + code[stop:]
    yield Module(path, file, code)


@dataclass(frozen=True)
class Edge:
    """A dependency: `source` needs `target`, because the code of `source` contains `reason`."""

    source: str
    target: str
    reason: str


class Crate:
    """The modules of a crate, by path. The library's root has the empty path; `main` is a separate crate."""

    def __init__(self, source: Path) -> None:
        self.modules: dict[ModulePath, Module] = {}
        hidden = set()
        for file in sorted(source.rglob("*.rs")):
            path = module_path(file.relative_to(source))
            text = file.read_text()
            code = without_tests(text)
            self.modules |= {module.path: module for module in inner_modules(path, path, code)}
            # A module that its parent declares only for tests is removed from `modules` below.
            declared = set(re.findall(r"\bmod\s+(\w+)\s*;", code_of(text)))
            kept = set(re.findall(r"\bmod\s+(\w+)\s*;", code))
            parent = () if path in ((), ("main",)) else path
            hidden |= {(*parent, name) for name in declared - kept}
        for path in [path for path in self.modules if any(path[: len(one)] == one for one in hidden)]:
            del self.modules[path]

    def edges(self) -> list[Edge]:
        """The dependencies between the modules, except those of `lib` and `main`."""
        found: list[Edge] = []
        for module in self.modules.values():
            if module.file not in ((), ("main",)):
                found += self._edges_of(module)
        return list(dict.fromkeys(edge for edge in found if edge.source != edge.target))

    def _edges_of(self, module: Module) -> Iterator[Edge]:
        body = USE.sub(" ", module.code)
        for visibility, tree in _declarations(module.code):
            for name, path in _leaves(tree):
                reexported = visibility and self._child(module, path) and not re.search(rf"\b{re.escape(name)}\b", body)
                if not reexported:
                    yield from self._dependencies(module, path, f"use {'::'.join(path)}")
        for found in PATH.finditer(body):
            path = tuple(re.findall(r"\w+", found[0].replace("r#", "")))
            yield from self._dependencies(module, path, "::".join(path))
        for found in INHERENT_IMPL.finditer(body):
            yield from self._methods_elsewhere(module, found["head"])

    def _child(self, module: Module, path: ModulePath) -> bool:
        resolved = self.resolve(module, path)
        return resolved is not None and resolved[: len(module.path)] == module.path and resolved != module.path

    def _dependencies(self, module: Module, path: ModulePath, reason: str) -> Iterator[Edge]:
        """Yields an edge to the module in the path.

        If that module only re-exports the name, also yields an edge to the module that defines the name.
        """
        resolved = self.resolve(module, path)
        if resolved is None:
            return
        rest = self._rest(module, path, resolved)
        target = self.modules[resolved]
        origin = self._origin(target, rest[0]) if rest else None
        # The crate's root only re-exports names of modules, so an edge to the module that defines the name is enough.
        if resolved != () or origin is None:
            yield Edge(str(module), str(target), reason)
        if origin is not None:
            yield Edge(str(module), str(origin), reason)

    def resolve(self, module: Module, path: ModulePath) -> ModulePath | None:
        """Returns the longest part of the path that is a module; None if the path leads out of the crate."""
        absolute = self._absolute(module, path)
        if absolute is None:
            return None
        while absolute and absolute not in self.modules:
            absolute = absolute[:-1]
        return absolute

    def _absolute(self, module: Module, path: ModulePath, aliases: ModulePath = ()) -> ModulePath | None:
        """Returns the path from the crate's root; `aliases` are the imported names that have already been looked up."""
        first, rest = path[0], path[1:]
        if first == "crate":
            return rest
        if first == "self":
            return (*module.path, *rest)
        if first == "super":
            base = module.path[:-1]
            while rest and rest[0] == "super":
                base, rest = base[:-1], rest[1:]
            return (*base, *rest)
        if (*module.path, first) in self.modules:
            return (*module.path, *path)
        known = module.names.get(first)
        if known and first not in aliases:
            return self._absolute(module, (*known, *rest), (*aliases, first))
        return None

    def _rest(self, module: Module, path: ModulePath, resolved: ModulePath) -> ModulePath:
        absolute = self._absolute(module, path) or ()
        return absolute[len(resolved) :]

    def _origin(self, module: Module, name: str) -> Module | None:
        """Returns the module that defines a name, if this module only imports or re-exports the name, or None."""
        path = module.names.get(name)
        if path is None or name in module.defined:
            return None
        resolved = self.resolve(module, path)
        if resolved is None or resolved == module.path:
            return None
        rest = self._rest(module, path, resolved)
        return (self._origin(self.modules[resolved], rest[0]) if rest else None) or self.modules[resolved]

    def _methods_elsewhere(self, module: Module, head: str) -> Iterator[Edge]:
        """A type whose methods are in another file needs that file, even if the type's file does not import it.

        A submodule of the type's own module is a part of that module, so its methods are no such need.
        """
        head = _without_generics(head)
        if re.search(r"\bfor\b", head):
            return
        found = re.match(r"\s*((?:\w+\s*::\s*)*\w+)", head)
        if not found:
            return
        path = tuple(re.findall(r"\w+", found[1]))
        if len(path) == 1 and path[0] in module.defined:
            return
        if len(path) == 1:
            path = module.names.get(path[0], path)
        resolved = self.resolve(module, path)
        if resolved is None:
            return
        rest = self._rest(module, path, resolved)
        owner = (self._origin(self.modules[resolved], rest[0]) if rest else None) or self.modules[resolved]
        if not (owner.path and module.path[: len(owner.path)] == owner.path):
            yield Edge(str(owner), str(module), f"impl {path[-1]} in {module}")


def module_path(file: Path) -> ModulePath:
    """The path of a file's module."""
    parts = file.with_suffix("").parts
    return () if parts == ("lib",) else parts[:-1] if parts[-1] == "mod" else parts


def _declarations(code: str) -> Iterator[tuple[str, str]]:
    for found in USE.finditer(code):
        yield found["visibility"] or "", found["tree"]


def _leaves(tree: str) -> list[tuple[str, ModulePath]]:
    """Returns the names that a `use` tree imports, each with its path."""
    tree = tree.strip().removeprefix("::")
    brace = tree.find("{")
    if brace >= 0:
        prefix = tuple(re.findall(r"\w+", tree[:brace]))
        inner = tree[brace + 1 : tree.rfind("}")]
        found: list[tuple[str, ModulePath]] = []
        for part in _split(inner):
            for name, path in _leaves(part):
                if path == ("self",):
                    found.append((prefix[-1], prefix))
                else:
                    found.append((name, (*prefix, *path)))
        return found
    path_text, _, alias = tree.partition(" as ")
    path = tuple(re.findall(r"\w+|\*", path_text.replace("r#", "")))
    return [((alias.strip() or path[-1]), path)] if path else []


def _split(text: str) -> Iterator[str]:
    depth, start = 0, 0
    for place, one in enumerate(text):
        depth += {"{": 1, "}": -1}.get(one, 0)
        if one == "," and depth == 0:
            yield text[start:place]
            start = place + 1
    if text[start:].strip():
        yield text[start:]


def _without_generics(head: str) -> str:
    """Returns the head of an `impl` block without the text between < and >."""
    depth, kept = 0, []
    for place, one in enumerate(head):
        if one == "<":
            depth += 1
        elif one == ">" and head[place - 1] != "-":
            depth -= 1
        elif depth == 0:
            kept.append(one)
    return "".join(kept).partition(" where ")[0]


def cycles(edges: list[Edge]) -> list[list[str]]:
    """Returns the groups of modules that depend on each other, each group sorted.

    The algorithm is Tarjan's for strongly connected components.
    """
    graph: dict[str, list[str]] = {}
    for edge in edges:
        graph.setdefault(edge.source, []).append(edge.target)
        graph.setdefault(edge.target, [])
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for after in graph[node]:
            if after not in index:
                visit(after)
                low[node] = min(low[node], low[after])
            elif after in stack:
                low[node] = min(low[node], index[after])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in graph:
        if node not in index:
            visit(node)
    return found
