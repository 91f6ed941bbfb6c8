"""docs/export.md: its examples run, and its coverage is what is registered.

`python tests/export/test_docs.py` writes the coverage anew.
"""

import importlib
import re
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

PAGE = Path(__file__).parents[2] / "docs" / "export.md"
BLOCK = re.compile(r"(?<=<!-- coverage -->\n).*?(?=<!-- end of coverage -->)", re.DOTALL)
TESTS = {
    "arithmetic": (
        "activation arithmetic aliases jacobi linalg losses numbers ranking recurrence reduction "
        "segments special"
    ),
    "attention": "attention",
    "complex": "complex complex_functions complex_movement fourier",
    "control": "control",
    "indexing": "indexing scatter sorting",
    "layers": "convolution embedding normalization padding pooling resize similarity",
    "movement": "creation movement",
    "quantized": "quantized",
    "random": "random",
    "recurrent": "recurrent",
    "vision": "vision",
}
"""The families that each of tests/export/test_torch_*.py is about."""


def operators():
    """The operators of each family, and those that have a second translation for complex tensors."""
    from sardonyx.export.torch import TRANSLATIONS
    from sardonyx.export.torch.pairs import COMPLEX_TRANSLATIONS
    from sardonyx.export.torch.registry import HIGHER_ORDER

    families = {}
    for table in (TRANSLATIONS, COMPLEX_TRANSLATIONS):
        for target, function in table.items():
            namespace, name, _ = target.split(".")
            name = name if namespace == "aten" else f"{namespace}.{name}"
            families.setdefault(function.__module__, set()).add(name)
    for name, function in HIGHER_ORDER.items():
        families.setdefault(function.__module__, set()).add(name)
    return {family: families[family] for family in sorted(families)}


def coverage():
    tests = {family: file for file, families in TESTS.items() for family in families.split()}
    found = operators()
    table = ["| family | operators | tests |", "|---|---:|---|"]
    lists = []
    for module, names in found.items():
        family = module.rpartition(".")[2]
        about = importlib.import_module(module).__doc__.partition("\n")[0].rstrip(".")
        file = f"test_torch_{tests[family]}.py"
        assert (Path(__file__).parent / file).exists()
        table.append(f"| `{family}`: {about} | {len(names)} | `{file}` |")
        listed = ", ".join(
            f"`{name}`" for name in sorted(names, key=lambda name: (name.strip("_"), name))
        )
        lists += ["", f"**{family}**", "", *textwrap.wrap(listed, 100, break_on_hyphens=False)]
    total = len(set().union(*found.values()))
    head = (
        f"{total} operators of PyTorch have a translation, some a second one for complex tensors."
    )
    return "\n".join(["", head, "", *table, *lists, "", ""])


def test_the_coverage_list_is_up_to_date():
    assert BLOCK.search(PAGE.read_text())[0] == coverage()


def test_the_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(compile(block, str(PAGE), "exec"), names)  # noqa: S102
    assert (tmp_path / "linear.onnx").exists()


if __name__ == "__main__":
    PAGE.write_text(BLOCK.sub(lambda _: coverage(), PAGE.read_text()))
