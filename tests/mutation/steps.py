"""Reads the numbered checks of a verifier: the list in its docstring, the mark over each statement, the raises between.

A mark is a comment `# N.M words` alone on its line, right over one statement, which must have one of four forms that
can be taken away without judgement: an `if` that raises, a `try` whose handlers raise, a call, a `raise`.
Nothing here imports what it reads.
"""

import ast
import copy
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

_LISTED = re.compile(r"^(\d+\.\d+)\s\s*(\S.*)$")
_MARK = re.compile(r"^#\s*(\d+\.\d+)\b")
_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Step:
    """One marked statement: which check it makes, and where."""

    number: str
    module: str
    line: int
    mark_line: int
    part: int = 0
    """0 for the whole check; from 1 on, one operand of its condition."""

    @property
    def order(self) -> tuple[int, ...]:
        """Sorts by number, then place."""
        return (*(int(one) for one in self.number.split(".")), self.line, self.part)

    @property
    def name(self) -> str:
        """`1.26`, or `1.26/2` for a part."""
        return f"{self.number}/{self.part}" if self.part else self.number


class Module:
    """One file of the package, by its source alone."""

    def __init__(self, name: str, source: str, prefix: str) -> None:
        self.name = name
        self.source = source
        self.tree = ast.parse(source)
        self.prefix = prefix

    @cached_property
    def imported(self) -> dict[str, tuple[str, str]]:
        """Local name to (module, name there), for what comes from the same package."""
        found: dict[str, tuple[str, str]] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(self.prefix):
                module = (node.module or "").removeprefix(self.prefix)
                found |= {one.asname or one.name: (module, one.name) for one in node.names}
        return found

    @cached_property
    def top(self) -> dict[str, ast.stmt]:
        """What the module defines or assigns, by name."""
        found: dict[str, ast.stmt] = {}
        for node in self.tree.body:
            if isinstance(node, _Function | ast.ClassDef):
                found[node.name] = node
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                found |= {one.id: node for one in targets if isinstance(one, ast.Name)}
        return found

    @cached_property
    def methods(self) -> list[tuple[str, _Function]]:
        """(class, method) for every class."""
        classes = [node for node in self.tree.body if isinstance(node, ast.ClassDef)]
        return [(one.name, node) for one in classes for node in one.body if isinstance(node, _Function)]

    @cached_property
    def marks(self) -> tuple[Step, ...]:
        """The marked statements. A mark over no statement has line 0."""
        comments = {
            token.start[0]: token.string
            for token in tokenize.generate_tokens(io.StringIO(self.source).readline)
            if token.type == tokenize.COMMENT and token.line.strip().startswith("#")
        }
        starts = {node.lineno for node in ast.walk(self.tree) if isinstance(node, ast.stmt)}
        steps = []
        for line, text in comments.items():
            if found := _MARK.match(text):
                below = line + 1
                while below in comments and not _MARK.match(comments[below]):
                    below += 1
                steps.append(Step(found[1], self.name, below if below in starts else 0, line))
        return tuple(steps)


def numbers(source: str) -> dict[str, str]:
    """The list in the module's docstring: number to words, in its order. Raises ValueError for a number out of turn."""
    listed: dict[str, str] = {}
    last = (0, 0)
    for line in (ast.get_docstring(ast.parse(source)) or "").splitlines():
        if found := _LISTED.match(line):
            major, minor = (int(part) for part in found[1].split("."))
            if (major, minor) != (last[0], last[1] + 1) and (major <= last[0] or minor != 1):
                raise ValueError(f"step {found[1]} is out of turn after {last[0]}.{last[1]}")
            last = (major, minor)
            listed[found[1]] = found[2]
    return listed


def load(folder: Path, prefix: str, start: str) -> dict[str, Module]:
    """The module `start` and every module of the package that it reaches by imports."""
    modules: dict[str, Module] = {}
    wanted = [start]
    while wanted:
        name = wanted.pop()
        path = folder / (name.replace(".", "/") + ".py")
        path = path if path.exists() else folder / name.replace(".", "/") / "__init__.py"
        if name in modules or not path.exists():
            continue
        modules[name] = Module(name, path.read_text(), prefix)
        wanted += [module for module, _ in modules[name].imported.values()]
    return modules


def parts(module: Module, step: Step) -> list[Step]:
    """The step itself, and one for each operand that its condition can lose."""
    target = _statement(module, step)
    count = len(_operands(target.test)) if isinstance(target, ast.If) else 0
    return [step, *(replace(step, part=part) for part in range(1, count + 1))]


def without(module: Module, step: Step) -> str:
    """The module's source with that one check disabled, every other line as it was.

    Raises ValueError for a form that cannot be.
    """
    target = _statement(module, step)
    lines = module.source.splitlines()
    margin = " " * target.col_offset
    changed = _weakened(target, step.part) if step.part else _disabled(target, step)
    instead = [margin + line for one in changed for line in ast.unparse(one).splitlines()]
    # Comments and lines stay where they are: a test that reads marks must not mistake their loss for the check's.
    instead += [""] * ((target.end_lineno or target.lineno) - target.lineno + 1 - len(instead))
    return "\n".join([*lines[: target.lineno - 1], *instead, *lines[target.end_lineno :]]) + "\n"


def _statement(module: Module, step: Step) -> ast.stmt:
    for one in ast.walk(module.tree):
        if isinstance(one, ast.stmt) and one.lineno == step.line:
            return one
    raise ValueError(f"{module.name}.py:{step.mark_line}: step {step.number} stands over no statement")


def _operands(test: ast.expr) -> list[tuple[ast.BoolOp | ast.Compare, int]]:
    """Each operand of `and` or `or`, and each end of a range, anywhere in a condition."""
    found: list[tuple[ast.BoolOp | ast.Compare, int]] = []
    for node in ast.walk(test):
        if isinstance(node, ast.BoolOp):
            found += [(node, at) for at in range(len(node.values))]
        elif isinstance(node, ast.Compare) and len(node.ops) == 2:
            found += [(node, at) for at in range(2)]
    return found


def _weakened(target: ast.stmt, part: int) -> list[ast.stmt]:
    changed = copy.deepcopy(target)
    assert isinstance(changed, ast.If)
    node, at = _operands(changed.test)[part - 1]
    if isinstance(node, ast.BoolOp):
        del node.values[at]
        return [changed]  # one operand left unparses as itself
    node.left = node.comparators[0] if at == 0 else node.left
    del node.ops[at], node.comparators[at]
    return [changed]


def _disabled(one: ast.stmt, step: Step) -> list[ast.stmt]:
    # The condition is still evaluated: what it does besides deciding is not the check.
    if isinstance(one, ast.If) and not one.orelse and isinstance(one.body[-1], ast.Raise):
        return [ast.Expr(one.test)]
    if isinstance(one, ast.Try) and one.handlers and all(isinstance(of.body[-1], ast.Raise) for of in one.handlers):
        return one.body
    if isinstance(one, ast.Raise) or (isinstance(one, ast.Expr) and isinstance(one.value, ast.Call)):
        return [ast.Pass()]
    raise ValueError(f"{step.module}.py:{step.line}: step {step.number}: no if-raise, try-raise, call or raise")


def faults(modules: dict[str, Module], listed: dict[str, str], roots: list[tuple[str, str]]) -> list[str]:
    """What is wrong between the list and the code: one line each, nothing if they agree."""
    steps = [step for module in modules.values() for step in module.marks]
    found = [
        f"step {number} is in the list and marks no statement" for number in listed.keys() - {s.number for s in steps}
    ]
    for step in steps:
        if step.number not in listed:
            found.append(f"{step.module}.py:{step.mark_line}: step {step.number} is not in the list")
        try:
            without(modules[step.module], step)
        except ValueError as error:
            found.append(str(error))
    for name, function in reachable(modules, roots):
        marked = {step.line for step in modules[name].marks}
        found += [f"{name}.py:{line}: a raise on the path without a number" for line in _bare_raises(function, marked)]
    return sorted(set(found))


def _bare_raises(node: ast.AST, marked: set[int]) -> Iterator[int]:
    """Lines of raises that no marked statement holds. A marked `try` holds those of its handlers only."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Try) and child.lineno in marked:
            for inner in child.body:
                yield from _bare_raises(ast.Module([inner], []), marked)
        elif isinstance(child, ast.stmt) and child.lineno in marked:
            continue
        elif isinstance(child, ast.Raise):
            yield child.lineno
        else:
            yield from _bare_raises(child, marked)


def reachable(modules: dict[str, Module], roots: list[tuple[str, str]]) -> list[tuple[str, ast.AST]]:
    """Every function that may run under `roots`, by name alone: rather one too many than one too few."""
    seen: dict[tuple[str, str], ast.AST] = {}
    wanted = list(roots)
    while wanted:
        module_name, name = wanted.pop()
        module = modules.get(module_name)
        node = _find(module, name) if module is not None else None
        if module is None or node is None or (module_name, name) in seen:
            continue
        seen[module_name, name] = node
        if isinstance(node, ast.ClassDef):
            wanted += [(module_name, f"{name}.{one}") for of, one in _made(module) if of == name]
            continue
        wanted += _used(modules, module, name.split(".")[0], node)
    return [(name, node) for (name, _), node in seen.items() if not isinstance(node, ast.ClassDef)]


def _find(module: Module, name: str) -> ast.AST | None:
    if "." not in name:
        return module.top.get(name)
    return next((node for of, node in module.methods if f"{of}.{node.name}" == name), None)


def _made(module: Module) -> list[tuple[str, str]]:
    # Making an object runs these without naming them.
    return [(of, node.name) for of, node in module.methods if node.name.startswith("__")]


def _used(modules: dict[str, Module], module: Module, owner: str, node: ast.AST) -> list[tuple[str, str]]:
    used: list[tuple[str, str]] = []
    for one in _run(node):
        if isinstance(one, ast.Name):
            used.append(module.imported.get(one.id, (module.name, one.id)))
        elif isinstance(one, ast.Attribute) and isinstance(one.value, ast.Name) and one.value.id == "self":
            used.append((module.name, f"{owner}.{one.attr}"))
        elif isinstance(one, ast.Attribute):
            near = load_closure(modules, module.name)
            used += [(at, f"{of}.{one.attr}") for at in near for of, _ in modules[at].methods]
    return used


def _run(node: ast.AST) -> Iterator[ast.AST]:
    """Every node under this one but annotations: naming a type there makes no object of it."""
    yield node
    for name, value in ast.iter_fields(node):
        if name not in ("annotation", "returns"):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from _run(child)


def load_closure(modules: dict[str, Module], start: str) -> set[str]:
    """The modules whose objects may be held in `start`: itself and all it imports, directly or not."""
    near: set[str] = set()
    wanted = [start]
    while wanted:
        name = wanted.pop()
        if name in modules and name not in near:
            near.add(name)
            wanted += [module for module, _ in modules[name].imported.values()]
    return near
