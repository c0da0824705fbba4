"""Python modules read as text: which crews they define, and what a function in them runs. Nothing is imported."""

import ast
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..tracebacks import line_of

# A source file above this is data, not somebody's crew.
_MAX_BYTES = 1 << 20
_MAX_FILES = 300
_MAX_FOLDERS = 300
_MOST_FAULTS = 5
_LEFT_OUT = frozenset(("__pycache__", "node_modules", "site-packages", "tests", "test", "venv"))

CREW_CLASS, FLOW, FACTORY, CREW, AGENT = "crew class", "flow", "factory", "crew", "agent"
# The order in which one is preferred.
RANKS = {CREW_CLASS: 0, FLOW: 0, FACTORY: 1, CREW: 2, AGENT: 3}
_OBJECTS = {"Crew": CREW, "Agent": AGENT, "LiteAgent": AGENT}
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Candidate:
    """Something that may be a target: `form` is its name as one, `kind` what it is."""

    form: str
    kind: str

    @property
    def name(self) -> str:
        """The name within its module."""
        return self.form.rpartition(":")[2]


@dataclass
class Module:
    """A parsed source file. `imports` maps a local name to the module and the name in it ("" for a module)."""

    name: str
    file: str
    tree: ast.Module
    imports: dict[str, tuple[str, str]] = field(default_factory=dict)

    def function(self, name: str) -> Function | None:
        """The module's function of that name."""
        return next((node for node in self.tree.body if isinstance(node, _FUNCTIONS) and node.name == name), None)

    def function_at(self, line: int) -> Function | None:
        """The function, at any depth, whose definition or first decorator is in that line."""
        for node in ast.walk(self.tree):
            if isinstance(node, _FUNCTIONS) and min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) == line:
                return node
        return None

    def class_(self, name: str) -> ast.ClassDef | None:
        """The module's class of that name."""
        return next((node for node in self.tree.body if isinstance(node, ast.ClassDef) and node.name == name), None)

    def origin(self, node: ast.AST | None) -> str:
        """The name under which the thing that an expression names was defined, as in "Crew" for `C` of `import Crew as C`."""
        if isinstance(node, ast.Name):
            return self.imports.get(node.id, ("", node.id))[1] or node.id
        if isinstance(node, ast.Attribute):
            return node.attr
        if isinstance(node, ast.Subscript):
            return self.origin(node.value)
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return node.value.split("[", 1)[0]
        return ""

    def candidates(self) -> list[Candidate]:
        """What this module itself defines that may be a target, best first."""
        found: list[Candidate] = []
        flows = {"Flow"}
        for node in self.tree.body:
            if isinstance(node, ast.ClassDef):
                kind = self._kind_of_class(node, flows)
                found += [Candidate(f"{self.name}:{node.name}", kind)] if kind else []
            elif isinstance(node, (ast.Assign, ast.AnnAssign)):
                kind = _OBJECTS.get(self.origin(node.value.func)) if isinstance(node.value, ast.Call) else None
                names = node.targets if isinstance(node, ast.Assign) else [node.target]
                found += [Candidate(f"{self.name}:{name.id}", kind) for name in names if kind and isinstance(name, ast.Name)]
            elif isinstance(node, _FUNCTIONS) and self._makes(node, flows):
                found.append(Candidate(f"{self.name}:{node.name}", FACTORY))
        public = [candidate for candidate in found if not candidate.name.startswith("_")]
        return sorted(public, key=lambda candidate: RANKS[candidate.kind])

    def _kind_of_class(self, node: ast.ClassDef, flows: set[str]) -> str | None:
        if any(self.origin(base) in flows for base in node.bases):
            flows.add(node.name)
            return FLOW
        decorated = any(self.origin(decorator) == "CrewBase" for decorator in node.decorator_list)
        has_crew = any(isinstance(part, _FUNCTIONS) and part.name in ("crew", "kickoff", "kickoff_async") for part in node.body)
        return CREW_CLASS if decorated or has_crew else None

    def _makes(self, node: Function, flows: set[str]) -> bool:
        """Whether a function returns a crew, a flow or an agent, as its annotation or its return statements say."""
        made = {*_OBJECTS, *flows}
        if self.origin(node.returns) in made:
            return True

        def is_made(value: ast.AST | None) -> bool:
            if isinstance(value, ast.Await):
                value = value.value
            return isinstance(value, ast.Call) and (self.origin(value.func) in made or (isinstance(value.func, ast.Attribute) and value.func.attr == "crew"))

        own = list(own_nodes(node))
        names = {target.id for part in own if isinstance(part, ast.Assign) and is_made(part.value) for target in part.targets if isinstance(target, ast.Name)}
        returned = [part.value for part in own if isinstance(part, ast.Return)]
        return any(is_made(value) or (isinstance(value, ast.Name) and value.id in names) for value in returned)


class Sources:
    """The modules below `roots`, the folders that are in sys.path for a crew, and those that are imported; each is read once."""

    def __init__(self, roots: list[str]) -> None:
        self.roots = roots
        self._modules: dict[str, Module | None] = {}
        # What is wrong with each file that was looked at and could not be read.
        self._faults: dict[str, str] = {}

    def module(self, name: str) -> Module | None:
        """The module of that name; None where there is none, or it cannot be parsed."""
        parts = name.split(".")
        for root in self._roots_of(name):
            base = os.path.join(root, *parts)
            for file in (f"{base}.py", os.path.join(base, "__init__.py")):
                if os.path.isfile(file):
                    return self.read(name, file)
        return None

    def read(self, name: str, file: str) -> Module | None:
        """The module `name` in `file`."""
        if file not in self._modules:
            try:
                self._modules[file] = _parse(name, file)
            except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
                self._modules[file] = None
                self._faults[file] = _fault(file, error)
        return self._modules[file]

    def faults(self) -> str:
        """The files that were looked at and could not be read, as in "src/poet/crew.py, line 33: SyntaxError: invalid syntax";
        "" where there are none."""
        told = list(self._faults.values())
        return "; ".join([*told[:_MOST_FAULTS], *(["…"] if len(told) > _MOST_FAULTS else [])])

    def resolve(self, module: Module, name: str) -> tuple[Module, str] | None:
        """The module that defines what `module` calls `name`, and its name there; None for what is not below the roots."""
        for _ in range(5):  # through that many packages that only pass a name on
            if name not in module.imports:
                return module, name
            origin, there = module.imports[name]
            found = self.module(origin)
            if found is None or not there:
                return None
            module, name = found, there
        return None

    def imported(self, module: Module, name: str) -> Module | None:
        """The module that `module` calls `name`; None where that is none."""
        if name not in module.imports:
            return None
        origin, there = module.imports[name]
        return self.module(f"{origin}.{there}" if there else origin)

    def candidates(self, package: str | None = None) -> list[Candidate]:
        """What the modules of `package`, or all below the roots, define that may be a target, best first."""
        found: list[Candidate] = []
        for name, file in _files(self._roots_of(package) if package else self.roots, package):
            module = self.read(name, file)
            found += module.candidates() if module is not None else []
        return sorted(dict.fromkeys(found), key=lambda candidate: RANKS[candidate.kind])

    def _roots_of(self, module: str) -> list[str]:
        """The roots, and the folder that holds the package of an imported module, as site-packages does."""
        file = getattr(sys.modules.get(module.split(".", 1)[0]), "__file__", None)
        if not file or not file.endswith(".py"):
            return self.roots
        folder = os.path.dirname(file)
        return [*self.roots, os.path.dirname(folder) if os.path.basename(file) == "__init__.py" else folder]


def own_nodes(function: ast.AST) -> Iterator[ast.AST]:
    """What stands in a function itself, without the functions and classes in it."""
    pending = list(ast.iter_child_nodes(function))
    while pending:
        node = pending.pop(0)
        yield node
        if not isinstance(node, (*_FUNCTIONS, ast.Lambda, ast.ClassDef)):
            pending[:0] = ast.iter_child_nodes(node)


def _parse(name: str, file: str) -> Module | None:
    """None for a file that is too large to be somebody's crew. Raises what reading and parsing raise."""
    if os.path.getsize(file) > _MAX_BYTES:
        return None
    with open(file, "rb") as opened:
        tree = ast.parse(opened.read(), file)
    module = Module(name, file, tree)
    package = name if os.path.basename(file) == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                module.imports[alias.asname or alias.name.split(".", 1)[0]] = (alias.name if alias.asname else alias.name.split(".", 1)[0], "")
        elif isinstance(node, ast.ImportFrom):
            parent = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*parent, *([node.module] if node.module else [])])
            for alias in node.names:
                module.imports[alias.asname or alias.name] = (origin, alias.name)
    return module


def _fault(file: str, error: Exception) -> str:
    line: int | None = None
    text: str | None = str(error)
    if isinstance(error, SyntaxError):
        line, text = error.lineno, error.msg
    elif isinstance(error, OSError):
        text = error.strerror
    return f"{line_of(file, line)}: {type(error).__name__}: {text}"


def _files(roots: list[str], package: str | None) -> Iterator[tuple[str, str]]:
    """Modules below the roots with their files; a bounded number, in a bounded number of folders, since a root may be anything."""
    for root in dict.fromkeys(map(os.path.abspath, roots)):
        start = os.path.join(root, *package.split(".")) if package else root
        if package and os.path.isfile(f"{start}.py"):
            yield package, f"{start}.py"
        count = 0
        for folders, (folder, below, files) in enumerate(os.walk(start)):
            if folders == _MAX_FOLDERS:
                break
            below[:] = [] if "pyvenv.cfg" in files else sorted(name for name in below if name.isidentifier() and name not in _LEFT_OUT)
            parts = [part for part in os.path.relpath(folder, root).split(os.sep) if part != "."]
            for file in sorted(files) if "pyvenv.cfg" not in files else ():
                stem, extension = os.path.splitext(file)
                if extension != ".py" or not stem.isidentifier() or not (parts or stem != "__init__"):
                    continue
                count += 1
                if count > _MAX_FILES:
                    return
                yield ".".join([*parts, *([] if stem == "__init__" else [stem])]), os.path.join(folder, file)
