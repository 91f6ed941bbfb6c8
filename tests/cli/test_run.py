from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

Write = Callable[..., Path]

IDENTITY = "agraph (float[N, 3] x) => (float[N, 3] y) { y = Identity(x) }"


def expected(model: Path, feeds: dict[str, Any]) -> list[Any]:
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def output(result: Any, name: str = "y") -> np.ndarray:
    assert result.code == 0, result.err + result.out
    return np.asarray(result.json["outputs"][name]["data"])


def test_picture_gives_the_answer_of_onnxruntime(sardonyx: Any, data: Path) -> None:
    picture = data / "digit-3.png"
    result = sardonyx("run", data / "digits.onnx", "--input", picture, "--json")
    pixels = np.asarray(Image.open(picture), np.float32)[None, None] / 255
    (wanted,) = expected(data / "digits.onnx", {"image": pixels})
    # one rounding for each of 512 terms of the longest sum
    np.testing.assert_allclose(output(result, "probabilities"), wanted, atol=512 * 2**-23)
    top = result.json["outputs"]["probabilities"]["top"][0]
    assert [entry["class"] for entry in top] == list(np.argsort(-wanted[0])[:5])
    assert top[0]["label"] == "3"


def test_people_see_input_answer_and_time(sardonyx: Any, data: Path) -> None:
    result = sardonyx("run", data / "digits.onnx", "-i", f"image={data / 'digit-8.png'}")
    assert result.code == 0
    assert "float [1, 1, 8, 8]" in result.out
    lines = [line.split() for line in result.out.splitlines()]
    assert any(line[:1] == ["8"] and line[-1].endswith("%") for line in lines if line)
    assert "\x1b" not in result.out


@pytest.mark.parametrize("text", ["1,2,3", "[1, 2, 3]", "[[1,2,3]]", "1 2 3", "1.0,2e0,3"])
def test_numbers_take_the_declared_shape(sardonyx: Any, write: Write, text: str) -> None:
    result = sardonyx("run", write(IDENTITY), "--input", text, "--json")
    np.testing.assert_array_equal(output(result), [[1, 2, 3]])


@pytest.mark.parametrize("suffix", ["npy", "npz", "pb"])
def test_files_feed_their_arrays(sardonyx: Any, write: Write, tmp_path: Path, suffix: str) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    path = tmp_path / f"a.{suffix}"
    if suffix == "npy":
        np.save(path, array)
    elif suffix == "npz":
        np.savez(path, other=array + 1, x=array)
    else:
        path.write_bytes(numpy_helper.from_array(array).SerializeToString())
    result = sardonyx("run", write(IDENTITY), f"--input=x={path}", "--json")
    np.testing.assert_array_equal(output(result), array)


def test_archive_feeds_inputs_by_name(sardonyx: Any, write: Write, tmp_path: Path) -> None:
    model = write("agraph (float[3] a, float[3] b) => (float[3] y) { y = Sub(a, b) }")
    np.savez(tmp_path / "all.npz", b=np.ones(3, np.float32), a=np.full(3, 5, np.float32))
    result = sardonyx("run", model, "-i", tmp_path / "all.npz", "--json")
    np.testing.assert_array_equal(output(result), [4, 4, 4])
    result = sardonyx(
        "run", model, "-i", f"a={tmp_path}/all.npz:b", "-i", f"b={tmp_path}/all.npz:a", "--json"
    )
    np.testing.assert_array_equal(output(result), [-4, -4, -4])


def test_other_number_types_are_converted_and_said(
    sardonyx: Any, write: Write, tmp_path: Path
) -> None:
    np.save(tmp_path / "a.npy", np.asarray([[1.5, 2, 3]]))
    result = sardonyx("run", write(IDENTITY), "-i", tmp_path / "a.npy", "--json")
    np.testing.assert_array_equal(output(result), [[1.5, 2, 3]])
    assert result.json["notes"] == ["x: float64 was converted to float"]


def test_bfloat16_survives_npy(sardonyx: Any, write: Write, tmp_path: Path) -> None:
    model = write("agraph (bfloat16[2] x) => (bfloat16[2] y) { y = Identity(x) }")
    np.save(tmp_path / "a.npy", np.asarray([1.5, -3], ml_dtypes.bfloat16))
    result = sardonyx("run", model, "-i", tmp_path / "a.npy", "--save", tmp_path / "o.npz")
    assert result.code == 0
    saved = np.load(tmp_path / "o.npz")["y"]
    assert saved.dtype == np.float32
    np.testing.assert_array_equal(saved, [1.5, -3])


@pytest.mark.parametrize(
    ("shape", "axes"),
    [("1, 3, 4, 6", (0, 3, 1, 2)), ("1, 4, 6, 3", (0, 1, 2, 3)), ("N, 3, H, W", (0, 3, 1, 2))],
)
def test_layout_of_pictures_follows_the_shape(
    sardonyx: Any, write: Write, tmp_path: Path, shape: str, axes: tuple[int, ...]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "p.png")
    model = write(f"agraph (uint8[{shape}] x) => (uint8[{shape}] y) {{ y = Identity(x) }}")
    result = sardonyx("run", model, "-i", tmp_path / "p.png", "--json")
    np.testing.assert_array_equal(output(result), pixels[None].transpose(axes))


def test_pixels_are_scaled_normalized_resized(sardonyx: Any, write: Write, tmp_path: Path) -> None:
    Image.new("RGB", (10, 20), (255, 51, 0)).save(tmp_path / "p.png")
    model = write("agraph (float[1, 3, 2, 2] x) => (float[1, 3, 2, 2] y) { y = Identity(x) }")
    run = ("run", model, "-i", tmp_path / "p.png", "--json")
    one = np.asarray([1, 0.2, 0], np.float32)
    for options, wanted in (
        ((), one),
        (("--raw-pixels",), one * 255),
        (("--mean", "0.5,0.5,0.5", "--std", "0.25"), (one - np.float32(0.5)) / np.float32(0.25)),
    ):
        found = output(sardonyx(*run, *options))
        np.testing.assert_allclose(found[0, :, 0, 0], wanted, rtol=4 * 2**-23)


def test_random_data_is_seeded_and_sized(sardonyx: Any, write: Write) -> None:
    model = write(IDENTITY)
    first, again, other = (
        output(sardonyx("run", model, "--random", "--dim", "N=2", "--seed", seed, "--json"))
        for seed in (1, 1, 2)
    )
    assert first.shape == (2, 3)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert first.min() >= 0
    assert first.max() < 1


def test_open_dimensions_are_one_and_said(sardonyx: Any, write: Write) -> None:
    result = sardonyx("run", write(IDENTITY), "--random")
    assert "'N' is taken as 1" in result.out
    shaped = sardonyx("run", write(IDENTITY), "--random", "--shape", "x=4,3", "--json")
    assert output(shaped).shape == (4, 3)


def test_random_inputs_agree_with_those_given(sardonyx: Any, write: Write) -> None:
    model = write("agraph (float[N, 3] x, int64[N] i) => (float[N, 3] y) { y = Gather(x, i) }")
    result = sardonyx("run", model, "-i", "x=[[1,2,3],[4,5,6]]", "--random", "--json")
    assert output(result).shape == (2, 3)


def test_wrong_guess_of_a_dimension_is_explained(sardonyx: Any, write: Write) -> None:
    model = write(
        "agraph (float[N] x, float[3] b) => (float[M] y) { y = Reshape(x, s) }".replace(
            "float[3] b", "int64[1] s"
        )
    )
    result = sardonyx("run", model, "-i", "s=7", "--random")
    assert result.code == 1
    assert "--dim N=" in result.err


def test_strings(sardonyx: Any, write: Write) -> None:
    model = write("agraph (string[N] x) => (string[N] y) { y = Identity(x) }")
    for text, wanted in (("hello, world", ["hello, world"]), ('["a", "b"]', ["a", "b"])):
        result = sardonyx("run", model, "-i", f"x={text}", "--json")
        assert output(result).tolist() == wanted
    shown = sardonyx("run", model, "-i", "x=\x1b[31mred")
    assert "\x1b" not in shown.out
    assert "\\x1b[31mred" in shown.out


def test_sequences_and_optionals(sardonyx: Any, write: Write) -> None:
    model = write("agraph (seq(float[N]) x) => (float[M] y) { y = ConcatFromSequence<axis=0>(x) }")
    result = sardonyx("run", model, "-i", "x=[[1, 2], [3]]", "--json")
    np.testing.assert_array_equal(output(result), [1, 2, 3])
    model = write("agraph (float[2] x) => (seq(float[2]) y) { y = SequenceConstruct(x, x) }")
    result = sardonyx("run", model, "-i", "1,2", "--json")
    assert [item["data"] for item in result.json["outputs"]["y"]["items"]] == [[1, 2], [1, 2]]


def test_numbers_that_json_lacks_are_words(sardonyx: Any, write: Write) -> None:
    result = sardonyx("run", write(IDENTITY), "-i", "nan,inf,-inf", "--json")
    assert result.json["outputs"]["y"]["data"] == [["NaN", "Infinity", "-Infinity"]]
    assert result.json["outputs"]["y"]["nan"] == 1


def test_nan_is_counted_for_people(sardonyx: Any, write: Write, tmp_path: Path) -> None:
    model = write("agraph (float[100] x) => (float[100] y) { y = Identity(x) }")
    array = np.linspace(0, 1, 100, dtype=np.float32)
    array[7] = np.nan
    np.save(tmp_path / "a.npy", array)
    result = sardonyx("run", model, "-i", tmp_path / "a.npy")
    assert "1 of 100 values are NaN" in result.out
    assert "max 1" in result.out


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("l.txt", "cat\ndog\nemu\n"),
        ("l.json", '["cat","dog","emu"]'),
        ("o.json", '{"0": "cat", "2": "emu", "1": "dog"}'),
    ],
)
def test_labels_of_a_file(
    sardonyx: Any, write: Write, tmp_path: Path, name: str, text: str
) -> None:
    (tmp_path / name).write_text(text)
    result = sardonyx("run", write(IDENTITY), "-i", "1,9,3", "--labels", tmp_path / name, "--json")
    (row,) = result.json["outputs"]["y"]["top"]
    assert [entry["label"] for entry in row] == ["dog", "emu", "cat"]


def test_labels_of_metadata_as_ultralytics_writes_them(
    sardonyx: Any, write: Write, tmp_path: Path
) -> None:
    path = write(IDENTITY)
    model = onnx.load(path)
    helper.set_model_props(model, {"names": "{0: 'cat', 1: \"dog's\", 2: 'emu'}"})
    onnx.save(model, path)
    result = sardonyx("run", path, "-i", "1,9,3", "--top", "1", "--json")
    (row,) = result.json["outputs"]["y"]["top"]
    assert [entry["label"] for entry in row] == ["dog's"]


def test_saved_names_stay_in_the_folder(sardonyx: Any, tmp_path: Path) -> None:
    names = ["../../up", "/etc/x", "a/b", "a_b", "", "..", "con\x00"]
    names = [name for name in names if name]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], [name]) for name in names],
        "g",
        [value("x", TensorProto.FLOAT, [2])],
        [value(name, TensorProto.FLOAT, [2]) for name in names],
    )
    opsets = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), tmp_path / "m.onnx")
    target = tmp_path / "deep" / "out"
    result = sardonyx("run", tmp_path / "m.onnx", "-i", "1,2", "--save", target)
    assert result.code == 0, result.err
    assert {path.parent for path in tmp_path.rglob("*.npy")} == {target}
    assert len(list(target.iterdir())) == len(names)
    for file in target.iterdir():
        np.testing.assert_array_equal(np.load(file), np.float32([1, 2]))


def test_chosen_output_only(sardonyx: Any, write: Write) -> None:
    model = write("agraph (float[2] x) => (float[2] y, float[2] z) { y = Neg(x) z = Abs(x) }")
    result = sardonyx("run", model, "-i", "1,2", "-o", "z", "--json")
    assert list(result.json["outputs"]) == ["z"]


def make_files(folder: Path) -> None:
    (folder / "text.npy").write_text("not an array")
    np.save(folder / "short.npy", np.zeros(1000))
    whole = (folder / "short.npy").read_bytes()
    (folder / "short.npy").write_bytes(whole[:500])
    np.save(folder / "wide.npy", np.zeros((5, 4), np.float32))
    np.savez(folder / "two.npz", a=np.zeros(3), b=np.zeros(3))
    (folder / "bad.npz").write_bytes(b"PK\x03\x04 no archive")
    (folder / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    (folder / "bad.pb").write_bytes(b"\xff\xff\xff")
    (folder / "cat.txt").write_text("1")
    (folder / "latin.txt").write_bytes(b"\xff\xfe\xff")
    (folder / "few.json").write_text("[1, ")
    (folder / "broken.onnx").write_bytes(b"\x0a\xff")


@pytest.mark.parametrize(
    ("words", "code", "fragments"),
    [
        ([], 2, ["input x is missing", "--random"]),
        (["-i", "y=1"], 2, ["no input 'y'", "'x'"]),
        (["-i", "x=1", "-i", "x=2"], 2, ["[?, 3], got 1 values"]),
        (["-i", "x=1,2,3", "-i", "x=1,2,3"], 2, ["given twice"]),
        (["-i", "x=1,2"], 2, ["got 2 values"]),
        (["-i", "x=one"], 2, ["neither a file that can be read nor numbers"]),
        (["-i", "x=[[1,2],[3]]"], 2, ["differ in length"]),
        (["-i", 'x=["a"]'], 2, ["not numbers"]),
        (["-i", "x=1+2j,2,3"], 2, ["cannot hold"]),
        (["-i", "x=" + "[" * 100_000], 2, ["neither"]),
        (["-i", "x=non.npy"], 2, ["no such file"]),
        (["-i", "x={0}/shrt.npy"], 2, ["did you mean", "short.npy"]),
        (["-i", "x={0}/none/a.npy"], 2, ["does not exist either"]),
        (["-i", "x={0}/text.npy"], 1, ["no NumPy array"]),
        (["-i", "x={0}/short.npy"], 1, ["it ends after"]),
        (["-i", "x={0}/wide.npy"], 2, ["dimension 1 must be 3"]),
        (["-i", "x={0}/two.npz"], 2, ["no array 'x'", "'a', 'b'"]),
        (["-i", "x={0}/two.npz:c"], 2, ["no array 'c'"]),
        (["-i", "x={0}/bad.npz"], 1, ["no .npz file"]),
        (["-i", "x={0}/bad.pb"], 1, ["bad.pb"]),
        (["-i", "x={0}/bad.png"], 1, ["cannot be read as a picture"]),
        (["-i", "x={0}/cat.txt"], 2, ["neither a file that can be read"]),
        (["--random", "--labels", "{0}/no.txt"], 2, ["no such file"]),
        (["--random", "--labels", "{0}/latin.txt"], 1, ["UTF-8"]),
        (["--random", "--labels", "{0}/few.json"], 1, ["JSON"]),
        (["--random", "-o", "z"], 2, ["no output 'z'", "'y'"]),
        (["--random", "--dim", "M=2"], 2, ["no input has a dimension 'M'", "'N'"]),
        (["--random", "--dim", "N"], 2, ["NAME=SIZE"]),
        (["--random", "--dim", "N=x"], 2, ["not integers"]),
        (["--random", "--dim", "N="], 2, ["no single size"]),
        (["--random", "--dim", "N=-1"], 2, ["negative"]),
        (["--random", "--shape", "x=a"], 2, ["not integers"]),
        (["--random", "--shape", "1,2,3"], 2, ["rank 2"]),
        (["--random", "--dim", f"N={1 << 40}"], 1, ["tensor bytes limit", "--limit tensor_bytes"]),
        (["--random", "--limit", "second=1"], 2, ["did you mean seconds"]),
        (["--random", "--limit", "seconds=-1"], 2, ["above 0"]),
        (["--random", "--limit", "nodes=inf"], 2, ["above 0"]),
        (["--random", "--mean", "a"], 2, ["not numbers"]),
        (["--random", "--threads", "0"], 2, ["--threads"]),
        (["--random", "--save", "{0}/cat.txt"], 2, ["cannot write"]),
        (["--random", "--nope"], 2, ["--nope"]),
    ],
)
def test_errors_say_what_and_how_to_fix(
    sardonyx: Any, write: Write, tmp_path: Path, words: list[str], code: int, fragments: list[str]
) -> None:
    make_files(tmp_path)
    if any("png" in word for word in words):
        model = write("agraph (float[1, 3, H, W] x) => (float[1, 3, H, W] y) { y = Neg(x) }")
    else:
        model = write(IDENTITY)
    command = ["run", model, *(word.replace("{0}", str(tmp_path)) for word in words)]
    result = sardonyx(*command)
    assert result.code == code, result.err
    assert result.out == ""
    assert "Traceback" not in result.err
    for fragment in fragments:
        assert fragment in result.err
    as_json = sardonyx(*command, "--json")
    assert as_json.code == code
    error = as_json.json["error"]
    assert set(error) >= {"class", "message", "places", "fix"}
    assert as_json.err == ""


def test_bad_models(sardonyx: Any, tmp_path: Path) -> None:
    make_files(tmp_path)
    assert sardonyx("run", tmp_path / "broken.onnx").code == 1
    missing = sardonyx("run", tmp_path / "brken.onnx")
    assert missing.code == 2
    assert "did you mean" in missing.err


def test_oversized_header_is_refused_before_memory_is_taken(
    sardonyx: Any, write: Write, tmp_path: Path
) -> None:
    np.save(tmp_path / "a.npy", np.zeros(1000))
    whole = (tmp_path / "a.npy").read_bytes()
    header = whole.replace(b"(1000,), }" + b" " * 10, b"(1000" + b"0" * 10 + b",), }")
    assert header != whole
    (tmp_path / "a.npy").write_bytes(header)
    result = sardonyx("run", write(IDENTITY), "-i", tmp_path / "a.npy")
    assert result.code == 1
    assert "tensor bytes limit" in result.err


def test_pickled_arrays_are_not_read(sardonyx: Any, write: Write, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.asarray([{"a": 1}], object), allow_pickle=True)
    result = sardonyx("run", write(IDENTITY), "-i", tmp_path / "a.npy")
    assert result.code == 1
    assert "Python objects" in result.err


def test_deadline(sardonyx: Any, data: Path) -> None:
    result = sardonyx("run", data / "digits.onnx", "--random", "--limit", "seconds=1e-9", "--json")
    assert result.code == 1
    assert json.loads(result.out)["error"]["class"] == "LimitError"
