"""An import hook that decorates the functions and classes of realax with its checks.

jaxtyping's own hook builds the checks of each function when it is defined, also of
those that are defined anew in each call of another.
"""

import ast
import importlib.abc
import importlib.util
import os
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType
from typing import Any, override

from ._check import checked, checked_class


# Part of the names of compiled files: to be raised when `_Decorating` changes.
_VERSION = 1
_DECORATORS = {"_realax_checked": checked, "_realax_checked_class": checked_class}


@contextmanager
def checks_of(package: str) -> Generator[None]:
    """Add run-time type checks to the modules of a package that are imported within."""
    finder = _Finder(package)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _Decorating(ast.NodeTransformer):
    """Decorates classes and the functions of modules and classes.

    A function inside another stays as it is: each call would build its checks again.
    """

    @override
    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        if not _is_exempt(node):
            # Innermost: other decorators may return what has no signature.
            node.decorator_list.append(_name("_realax_checked", node))
        return node

    @override
    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return node  # jaxtyping has no checks for them

    @override
    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        if _is_exempt(node):
            return node
        # Outermost: `__init__` is written by the decorator of data classes.
        node.decorator_list.insert(0, _name("_realax_checked_class", node))
        return self.generic_visit(node)


def _name(name: str, node: ast.AST) -> ast.expr:
    return ast.copy_location(ast.Name(name, ast.Load()), node)


def _is_exempt(node: ast.FunctionDef | ast.ClassDef) -> bool:
    decorators = node.decorator_list
    return any(isinstance(x, ast.Name) and x.id == "no_type_check" for x in decorators)


class _Loader(SourceFileLoader):
    @override
    def source_to_code(self, data: Any, path: Any, *, _optimize: int = -1) -> CodeType:
        text = importlib.util.decode_source(data)
        tree = _Decorating().visit(ast.parse(text, path))
        return compile(tree, path, "exec", dont_inherit=True, optimize=_optimize)

    @override
    def exec_module(self, module: ModuleType) -> None:
        vars(module).update(_DECORATORS)
        super().exec_module(module)

    # Compiled files have names of their own, beside those of an import without checks.
    @override
    def get_data(self, path: str) -> bytes:
        return super().get_data(_cached(path))

    @override
    def set_data(self, path: str, data: Any, *, _mode: int = 0o666) -> None:
        super().set_data(_cached(path), data, _mode=_mode)


def _cached(path: str) -> str:
    stem, suffix = os.path.splitext(path)
    return f"{stem}.checked-{_VERSION}.pyc" if suffix == ".pyc" else path


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, package: str) -> None:
        self.package = package

    @override
    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        if not fullname.startswith(f"{self.package}."):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(fullname, spec.loader.path)
        return spec
