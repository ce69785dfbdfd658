"""`help()` of each public name has an example, and all examples in docstrings run as shown."""

import ast
import doctest
import importlib
import inspect
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src/msafusion"
PARTS = ("fusion", "backbones", "networks", "attach", "predict", "checkpoints", "reproduce", "inference", "summary")
DATA = ("datasets", "preparation", "preprocessing", "media", "plots")
MODULES = ["msafusion", *(f"msafusion.{part}" for part in (*PARTS, *(f"data.{part}" for part in DATA)))]


def public():
    """Each public function and class once, by its name; registries, types and constants need no example."""
    found = {}
    for module in map(importlib.import_module, MODULES):
        for name in module.__all__:
            one = getattr(module, name)
            if inspect.isclass(one) or inspect.isroutine(one):
                found.setdefault(id(one), (f"{module.__name__}.{name}", one))
    return [pytest.param(one, id=name) for name, one in found.values()]


def others():
    """The examples of methods and of what is not public."""
    known = {inspect.cleandoc(param.values[0].__doc__ or "") for param in public()}
    documented = ast.Module | ast.ClassDef | ast.FunctionDef
    found = []
    for file in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            doc = ast.get_docstring(node) if isinstance(node, documented) else None
            if doc is not None and ">>>" in doc and doc not in known:
                name = getattr(node, "name", "module")
                found.append(pytest.param(doc, id=f"{file.relative_to(SOURCE)}:{name}"))
    return found


def check(doc, name, capsys):
    """Run the examples without any names but those that they import."""
    test = doctest.DocTestParser().get_doctest(doc, {"__name__": "__main__"}, name, None, 0)
    assert test.examples, f"{name} has no example"
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    runner.run(test, clear_globs=False)
    assert not runner.summarize(verbose=False).failed, capsys.readouterr().out


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("MSAFUSION_CACHE", str(tmp_path))


@pytest.mark.parametrize("one", public())
def test_public_name_has_an_example_that_runs(one, request, capsys):
    doc = inspect.cleandoc(one.__doc__ or "")
    assert "Examples:" in doc, f"{request.node.callspec.id} has no section of examples"
    check(doc, request.node.callspec.id, capsys)


@pytest.mark.parametrize("doc", others())
def test_other_examples_run(doc, request, capsys):
    check(doc, request.node.callspec.id, capsys)
