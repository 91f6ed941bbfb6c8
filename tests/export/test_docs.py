"""docs/export.md: its examples run, and its coverage list is what is registered.

`python tests/export/test_docs.py` writes the list anew.
"""

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

PAGE = Path(__file__).parents[2] / "docs" / "export.md"
BLOCK = re.compile(r"(?<=<!-- coverage -->\n).*?(?=<!-- end of coverage -->)", re.DOTALL)


def coverage():
    from sardonyx.export.torch import TRANSLATIONS

    families = {}
    for target, function in TRANSLATIONS.items():
        module = function.__module__.rpartition(".")[2]
        names = families.setdefault(module, {})
        namespace, name, overload = target.split(".")
        name = name if namespace == "aten" else f"{namespace}.{name}"
        names.setdefault(name, []).append(overload)
    lines = []
    for family in sorted(families):
        names = sorted(families[family], key=lambda name: name.strip("_"))
        lines += [f"**{family}**: " + ", ".join(f"`{name}`" for name in names), ""]
    return "\n".join(["", *lines])


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
