"""The commands and their options; what they do is in the module of each."""

from __future__ import annotations

from typing import Annotated

import typer

from sardonyx._version import __version__
from sardonyx.cli.console import boundary

__all__ = ["app"]

app = typer.Typer(
    name="sardonyx",
    help="ONNX, whole, in Python: open, check, run and export models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

_Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
_Limit = Annotated[
    list[str] | None,
    typer.Option("--limit", metavar="NAME=N", help="Change a bound, as in seconds=5."),
]
_Model = Annotated[str, typer.Argument(metavar="MODEL", help="The .onnx file.", show_default=False)]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sardonyx {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    del version


@app.command()
@boundary
def run(
    model: _Model,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            "-i",
            metavar="NAME=VALUE",
            help="A .npy, .npz, .pb or picture file, or the value itself: 1,2,3 or "
            "[[1,2],[3,4]] or text. A model's only input needs no name.",
        ),
    ] = None,
    random: Annotated[
        bool, typer.Option("--random", help="Random data for inputs not given.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the random data.")] = 0,
    shape: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=1,3,224", help="The shape of an input with open dimensions."),
    ] = None,
    dim: Annotated[
        list[str] | None, typer.Option(metavar="NAME=N", help="The size of an open dimension.")
    ] = None,
    output: Annotated[
        list[str] | None, typer.Option("--output", "-o", metavar="NAME", help="Only this output.")
    ] = None,
    save: Annotated[
        str | None, typer.Option(metavar="PATH", help="Save outputs to FILE.npz or to a folder.")
    ] = None,
    top: Annotated[int | None, typer.Option(min=1, help="How many classes to show.")] = None,
    labels: Annotated[
        str | None, typer.Option(metavar="FILE", help="Names of classes: a line each, or JSON.")
    ] = None,
    mean: Annotated[
        str | None, typer.Option(metavar="M,M,M", help="Subtracted from pixels, by channel.")
    ] = None,
    std: Annotated[
        str | None, typer.Option(metavar="S,S,S", help="Pixels are divided by it, by channel.")
    ] = None,
    raw_pixels: Annotated[
        bool, typer.Option("--raw-pixels", help="Pixels from 0 to 255 instead of 0 to 1.")
    ] = False,
    limit: _Limit = None,
    threads: Annotated[int | None, typer.Option(min=1, help="How many to use.")] = None,
    as_json: _Json = False,
) -> None:
    """Compute a model's outputs."""
    from sardonyx.cli.run import RunOptions
    from sardonyx.cli.run import run as run_model

    options = RunOptions(
        inputs=inputs or [],
        random=random,
        seed=seed,
        shapes=shape or [],
        dims=dim or [],
        outputs=output or [],
        save=save,
        top=top,
        labels=labels,
        mean=mean,
        std=std,
        raw_pixels=raw_pixels,
        limits=limit or [],
        threads=threads,
    )
    run_model(model, options, as_json=as_json)


@app.command()
@boundary
def show(
    model: _Model,
    depth: Annotated[
        int | None, typer.Option(min=0, help="Levels of modules to show; default: what fits.")
    ] = None,
    nodes: Annotated[bool, typer.Option("--nodes", help="List nodes, with shapes.")] = False,
    weights: Annotated[bool, typer.Option("--weights", help="List all weights.")] = False,
    limit: _Limit = None,
    as_json: _Json = False,
) -> None:
    """Tell what is inside a model."""
    from sardonyx.cli.options import parse_limits
    from sardonyx.cli.show import show as show_model

    limits = parse_limits(limit or [])
    show_model(model, depth=depth, nodes=nodes, weights=weights, limits=limits, as_json=as_json)


@app.command()
@boundary
def check(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL...", help="The .onnx files.", show_default=False)
    ],
    strict: Annotated[bool, typer.Option("--strict", help="Warnings are errors.")] = False,
    limit: _Limit = None,
    as_json: _Json = False,
) -> int:
    """Find all problems of models."""
    from sardonyx.cli.check import check as check_models
    from sardonyx.cli.options import parse_limits

    return check_models(models, strict=strict, limits=parse_limits(limit or []), as_json=as_json)


@app.command()
@boundary
def export(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE.py:NAME",
            help="A model in a Python file, which is run: an object, a class without arguments, "
            "or a function that returns (model, example inputs).",
            show_default=False,
        ),
    ],
    path: Annotated[
        str, typer.Argument(metavar="OUT.onnx", help="The file to write.", show_default=False)
    ],
    input_shape: Annotated[
        list[str] | None,
        typer.Option(metavar="1,3,224", help="Of an example input; :int64 after it is its type."),
    ] = None,
    opset: Annotated[int | None, typer.Option(help="Version of the operator set.")] = None,
    dynamic: Annotated[
        list[str] | None,
        typer.Option(metavar="x:0=batch", help="Leave a dimension open, under a name."),
    ] = None,
    input_names: Annotated[
        str | None, typer.Option(metavar="A,B", help="Names in the file.")
    ] = None,
    output_names: Annotated[
        str | None, typer.Option(metavar="A,B", help="Names in the file.")
    ] = None,
    external_data: Annotated[
        bool, typer.Option("--external-data", help="Weights in a file beside OUT.onnx.")
    ] = False,
    verify: Annotated[bool, typer.Option(help="Compare with the original.")] = True,
    as_json: _Json = False,
) -> None:
    """Export a framework's model to ONNX, and verify the file."""
    from sardonyx.cli.export import ExportOptions, export_object

    options = ExportOptions(
        input_shapes=input_shape or [],
        opset=opset,
        dynamic=dynamic or [],
        input_names=input_names,
        output_names=output_names,
        external_data=external_data,
        verify=verify,
    )
    export_object(source, path, options, as_json=as_json)


@app.command()
@boundary
def demo(
    save: Annotated[
        str | None, typer.Option(metavar="DIR", help="Copy the model and pictures there.")
    ] = None,
    as_json: _Json = False,
) -> int:
    """Walk the whole way with a small network that comes along."""
    from sardonyx.cli.demo import demo as run_demo

    return run_demo(save, as_json=as_json)
