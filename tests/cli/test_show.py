from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sardonyx.ir import RawTensor

Write = Callable[..., Path]

HOSTILE = "[bold red]\x1b[31mx\u202e[/bold red]\n'"
CONTROL = ("\x1b", "\u202e", "\x07", "\x00")


def save(nodes: Any, path: Path, initializers: Any = (), **options: Any) -> Path:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        options.pop("graph", "g"),
        [value(nodes[0].input[0], TensorProto.FLOAT, options.pop("shape", ["N", 4]))],
        [value(nodes[-1].output[0], TensorProto.FLOAT, None)],
        initializers,
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9, **options
    )
    onnx.save(model, path)
    return path


def weight(name: str, *shape: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.ones(shape, np.float32), name)


def test_json_says_what_the_onnx_package_reads(sardonyx: Any, data: Path) -> None:
    path = data / "digits.onnx"
    found = sardonyx("show", path, "--json").json
    model = onnx.load(path)
    assert found["bytes"] == path.stat().st_size
    assert found["ir_version"] == model.ir_version
    assert found["opsets"] == {"ai.onnx": model.opset_import[0].version}
    assert found["nodes"] == len(model.graph.node)
    counts = Counter(node.op_type for node in model.graph.node)
    assert {entry["name"]: entry["count"] for entry in found["operators"]} == counts
    sizes = [int(np.prod(tensor.dims)) for tensor in model.graph.initializer]
    assert found["weights"]["parameters"] == sum(sizes)
    assert found["weights"]["count"] == len(sizes)
    assert found["metadata"] == {entry.key: entry.value for entry in model.metadata_props}
    assert found["inputs"] == [
        {"name": "image", "type": "tensor(float)", "shape": ["batch", 1, 8, 8]}
    ]


def test_people_see_the_parts(sardonyx: Any, data: Path) -> None:
    result = sardonyx("show", data / "digits.onnx")
    assert result.code == 0
    for fragment in ("image", "[batch, 1, 8, 8]", "Conv", "9,932 parameters", "classifier"):
        assert fragment in result.out
    assert max(map(len, result.out.splitlines())) <= 80 + len(str(data))


def test_modules_of_the_exporter(sardonyx: Any, data: Path) -> None:
    tree = sardonyx("show", data / "digits.onnx", "--json", "--depth", 2).json["modules"]
    features, classifier = tree["modules"]
    assert (features["name"], classifier["name"]) == ("features", "classifier")
    assert classifier["parameters"] == 512 * 10 + 10
    assert [module["name"] for module in features["modules"]] == ["0", "1", "2", "3", "4"]
    flat = sardonyx("show", data / "digits.onnx", "--json", "--depth", 1).json["modules"]
    assert "modules" not in flat["modules"][0]


@pytest.mark.parametrize("style", ["torchscript", "namespace", "names"])
def test_modules_of_other_exporters(sardonyx: Any, tmp_path: Path, style: str) -> None:
    nodes = []
    for index in range(2):
        node = helper.make_node("Mul", [f"v{index}", f"enc.{index}.w"], [f"v{index + 1}"])
        if style == "torchscript":
            node.name = f"/enc/enc.{index}/Mul"
        elif style == "namespace":
            entry = node.metadata_props.add()
            entry.key = "namespace"
            entry.value = f": M/enc: torch.nn.Sequential/enc.{index}: Layer/mul: aten.mul.Tensor"
        else:
            node.name = f"enc/{index}/Mul"
        nodes.append(node)
    path = save(nodes, tmp_path / "m.onnx", [weight(f"enc.{i}.w", 4) for i in range(2)])
    tree = sardonyx("show", path, "--json", "--depth", 9).json["modules"]
    (encoder,) = tree["modules"]
    assert encoder["name"] == "enc"
    assert [(m["name"], m["parameters"], m["nodes"]) for m in encoder["modules"]] == [
        ("0", 4, 1),
        ("1", 4, 1),
    ]


def test_no_tree_without_names(sardonyx: Any, write: Write) -> None:
    path = write("agraph (float[3] x) => (float[3] y) { y = Relu(x) }")
    assert sardonyx("show", path, "--json").json["modules"] is None


def test_nodes_have_the_shapes_of_onnx(sardonyx: Any, write: Write) -> None:
    path = write(
        "agraph (float[2, 3] x) => (float[A, B] y)"
        " { a = Transpose(x) b = MatMul(x, a) c = Concat<axis=0>(b, b) y = Relu(c) }"
    )
    inferred = onnx.shape_inference.infer_shapes(onnx.load(path)).graph.value_info
    wanted = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in inferred}
    nodes = sardonyx("show", path, "--nodes", "--json").json["node_list"]
    found = {value["name"]: value["shape"] for node in nodes for value in node["outputs"]}
    assert {name: found[name] for name in wanted} == wanted
    assert "→ b  tensor(float) [2, 2]" in sardonyx("show", path, "--nodes").out


def test_weights_are_listed_and_not_read(
    sardonyx: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = [helper.make_node("MatMul", ["x", "block.w"], ["y"])]
    path = save(nodes, tmp_path / "m.onnx", [weight("block.w", 4, 1000)])

    def refuse(tensor: object) -> None:
        raise AssertionError(f"{tensor} was read")

    monkeypatch.setattr(RawTensor, "numpy", refuse)
    monkeypatch.setattr(RawTensor, "raw", refuse)
    (listed,) = sardonyx("show", path, "--weights", "--json").json["weights"]["all"]
    assert (listed["name"], listed["shape"], listed["bytes"]) == ("block.w", [4, 1000], 16000)


def test_external_files_are_named(sardonyx: Any, tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    path = save(nodes, tmp_path / "plain.onnx", [weight("w", 4, 1000)])
    model = onnx.load(path)
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="weights.bin")
    result = sardonyx("show", tmp_path / "m.onnx", "--json").json
    assert result["external_files"] == ["weights.bin"]
    assert result["weights"]["biggest"][0]["external"] is True


@pytest.mark.parametrize("command", ["show", "check", "run", "nodes"])
def test_hostile_names_are_text(sardonyx: Any, tmp_path: Path, command: str) -> None:
    nodes = [
        helper.make_node("Relu", [HOSTILE], [f"{HOSTILE}y"], name=f"{HOSTILE}/a"),
        helper.make_node("Add", [f"{HOSTILE}y", f"{HOSTILE}w"], ["[/]"], name=HOSTILE),
    ]
    path = save(
        nodes,
        tmp_path / "m.onnx",
        [weight(f"{HOSTILE}w", 4)],
        shape=["[red]\x07", 4],
        graph=HOSTILE,
        producer_name=HOSTILE,
        doc_string=HOSTILE * 30,
    )
    words: dict[str, tuple[str, ...]] = {
        "show": ("show", "--weights"),
        "nodes": ("show", "--nodes"),
        "check": ("check",),
        "run": ("run", "--random"),
    }
    name, *options = words[command]
    for more in ((), ("--json",)):
        result = sardonyx(name, path, *options, *more)
        assert result.code == 0, result.err
        assert not any(code in result.out + result.err for code in CONTROL)
    if command != "check":
        shown = sardonyx(name, path, *options).out
        assert "[bold red]\\x1b[31mx\\u202e[/bold red]" in shown


def test_ten_thousand_nodes_are_quick(sardonyx: Any, tmp_path: Path) -> None:
    nodes, weights = [], []
    for index in range(10_000):
        name = f"enc.layers.{index // 500}.w{index}"
        weights.append(weight(name, 4))
        nodes.append(helper.make_node("Add", [f"v{index}", name], [f"v{index + 1}"]))
    path = save(nodes, tmp_path / "m.onnx", weights)
    start = time.process_time()
    result = sardonyx("show", path)
    assert time.process_time() - start < 5
    assert "10000 nodes" in result.out
    assert len(result.out.splitlines()) < 60


def test_deep_names_are_bounded(sardonyx: Any, tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"], name="a/" * 50_000)]
    path = save(nodes, tmp_path / "m.onnx")
    for depth in ("0", "3", "1000000"):
        assert sardonyx("show", path, "--depth", depth).code == 0


def test_no_file_and_no_model(sardonyx: Any, data: Path, tmp_path: Path) -> None:
    missing = sardonyx("show", data / "digit.onnx")
    assert missing.code == 2
    assert "digits.onnx" in missing.err
    assert sardonyx("show", data / "digits.npz").code == 1
    assert sardonyx("show", tmp_path).code == 2


def test_text_is_the_model(sardonyx: Any, data: Path, tmp_path: Path) -> None:
    path = data / "digits.onnx"
    shown = sardonyx("show", path, "--text").out
    assert 'float[16, 1, 3, 3] "features.0.weight" = <144 float values>' in shown
    assert '["features.0/Conv"] conv2d = Conv <' in shown
    written = tmp_path / "digits.onnxtxt"
    written.write_text(sardonyx("show", path, "--text", "--weights").out, encoding="utf-8")
    assert sardonyx("check", written).code == 0
    summary = sardonyx("show", written, "--json").json
    original = sardonyx("show", path, "--json").json
    assert summary["weights"] == original["weights"]
    assert summary["operators"] == original["operators"]
    assert sardonyx("show", path, "--text", "--json").json == {"file": str(path), "text": shown}


def test_text_escapes_what_a_terminal_obeys(sardonyx: Any, tmp_path: Path) -> None:
    node = helper.make_node("Relu", [HOSTILE], ["y"], name=HOSTILE, doc_string=HOSTILE)
    path = save([node], tmp_path / "hostile.onnx", producer_name=HOSTILE)
    shown = sardonyx("show", path, "--text").out
    assert not any(character in shown for character in CONTROL)


def test_elided_text_is_no_model(sardonyx: Any, data: Path, tmp_path: Path) -> None:
    written = tmp_path / "digits.onnxtxt"
    written.write_text(sardonyx("show", data / "digits.onnx", "--text").out, encoding="utf-8")
    result = sardonyx("check", written)
    assert result.code == 1
    assert "left out" in result.out + result.err
