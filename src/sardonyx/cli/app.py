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
_Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="The .onnx or .onnxtxt file.", show_default=False)
]


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
    text: Annotated[
        bool,
        typer.Option("--text", help="The model as text; with --weights, text that reads back."),
    ] = False,
    limit: _Limit = None,
    as_json: _Json = False,
) -> None:
    """Tell what is inside a model."""
    from sardonyx.cli.options import parse_limits
    from sardonyx.cli.show import show as show_model

    limits = parse_limits(limit or [])
    show_model(
        model,
        depth=depth,
        nodes=nodes,
        weights=weights,
        text=text,
        limits=limits,
        as_json=as_json,
    )


@app.command()
@boundary
def infer(
    model: _Model,
    target: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="OUT.onnx", help="Write the types to it."),
    ] = None,
    shape: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=N,3,224", help="The shape of an input; ? leaves a size open."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="List all values.")] = False,
    limit: _Limit = None,
    as_json: _Json = False,
) -> int:
    """Find the type and shape of every value, and say why some stay open."""
    from sardonyx.cli.infer import infer_file
    from sardonyx.cli.options import parse_limits

    return infer_file(
        model,
        target=target,
        shapes=shape or [],
        every=every,
        limits=parse_limits(limit or []),
        as_json=as_json,
    )


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
def explain(
    model: _Model,
    dim: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=N", help="The size of an open dimension, to show numbers."),
    ] = None,
    limit: _Limit = None,
    as_json: _Json = False,
) -> int:
    """Say what a model is compiled to: its kernels, and what is not compiled and why."""
    from sardonyx.cli.explain import explain as explain_model
    from sardonyx.cli.options import parse_limits

    limits = parse_limits(limit or [])
    return explain_model(model, dims=dim or [], limits=limits, as_json=as_json)


@app.command()
@boundary
def bench(
    model: _Model,
    shape: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=1,3,224", help="The shape of an input with open dimensions."),
    ] = None,
    dim: Annotated[
        list[str] | None, typer.Option(metavar="NAME=N", help="The size of an open dimension.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the random inputs.")] = 0,
    threads: Annotated[int | None, typer.Option(min=1, help="How many to use.")] = None,
    seconds: Annotated[float, typer.Option(help="How long to time each runtime.")] = 2.0,
    alone: Annotated[
        bool, typer.Option("--alone", help="Without onnxruntime and OpenVINO beside it.")
    ] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="The time of each kernel, and what it could be.")
    ] = False,
    trace: Annotated[
        str | None,
        typer.Option(metavar="FILE.json", help="Write the kernels of one run as a Chrome trace."),
    ] = None,
    limit: _Limit = None,
    as_json: _Json = False,
) -> None:
    """Time a model, beside other runtimes where they are installed."""
    from sardonyx.cli.bench import BenchOptions
    from sardonyx.cli.bench import bench as bench_model

    options = BenchOptions(
        shapes=shape or [],
        dims=dim or [],
        seed=seed,
        threads=threads,
        seconds=seconds,
        alone=alone,
        profile=profile,
        trace=trace,
        limits=limit or [],
    )
    bench_model(model, options, as_json=as_json)


@app.command()
@boundary
def export(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE.py:NAME",
            help="A model in a Python file, which is run: an object, a class without arguments, "
            "or a function that returns (model, example inputs). Or FILE.pt2, an exported program.",
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
        typer.Option(
            metavar="x:0=batch", help="Leave a dimension open, under a name; auto: all that can be."
        ),
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
    optimize: Annotated[
        bool, typer.Option("--optimize", help="Fold constants, and batch norms into weights.")
    ] = False,
    weights: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Data of a model on the meta device: .safetensors, .pt."),
    ] = None,
    report: Annotated[
        str | None,
        typer.Option(metavar="OUT.md", help="Write what was done: Markdown, or JSON for .json."),
    ] = None,
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
        weights=weights,
        optimize=optimize,
        report=report,
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


_Target = Annotated[
    str,
    typer.Option(
        "--output", "-o", metavar="OUT.onnx", help="The file to write.", show_default=False
    ),
]
_External = Annotated[
    bool, typer.Option("--external-data", help="Weights in a file beside OUT.onnx.")
]
_Names = list[str] | None


@app.command(name="to-torch")
@boundary
def to_torch(
    model: _Model,
    target: Annotated[
        str,
        typer.Argument(
            metavar="OUT",
            help="OUT.py (readable source, weights beside it), OUT.pt (torch.load) or OUT.pt2 "
            "(torch.export.load).",
            show_default=False,
        ),
    ],
    trainable: Annotated[bool, typer.Option(help="Weights need gradients.")] = True,
    limit: _Limit = None,
    as_json: _Json = False,
) -> None:
    """Make a PyTorch module of a model: to train it, to change its code."""
    from sardonyx.cli.options import parse_limits
    from sardonyx.cli.to_torch import to_torch_file

    limits = parse_limits(limit or [])
    to_torch_file(model, target, trainable=trainable, limits=limits, as_json=as_json)


@app.command()
@boundary
def edit(
    model: _Model,
    target: _Target,
    inline: Annotated[
        bool, typer.Option("--inline", help="Put all functions in place of their calls.")
    ] = False,
    inline_function: Annotated[
        _Names, typer.Option(metavar="NAME", help="Only this function.")
    ] = None,
    remove: Annotated[
        _Names,
        typer.Option(metavar="NODE", help="Without this node: its input takes its output's place."),
    ] = None,
    add_output: Annotated[
        _Names, typer.Option(metavar="NAME", help="Give out this value too.")
    ] = None,
    dim: Annotated[
        _Names, typer.Option(metavar="x:0=batch", help="Open a dimension of an input.")
    ] = None,
    batch: Annotated[
        str | None, typer.Option(metavar="N|NAME", help="The size of batches, or open under NAME.")
    ] = None,
    fix: Annotated[
        _Names, typer.Option(metavar="NAME=N", help="The size of an open dimension.")
    ] = None,
    opset: Annotated[
        _Names,
        typer.Option(metavar="[DOMAIN=]N", help="Import another version, where that is the same."),
    ] = None,
    rename: Annotated[
        _Names, typer.Option(metavar="OLD=NEW", help="Rename an input, output or other value.")
    ] = None,
    rename_node: Annotated[_Names, typer.Option(metavar="OLD=NEW", help="Rename a node.")] = None,
    rename_function: Annotated[
        _Names, typer.Option(metavar="OLD=NEW", help="Rename a function.")
    ] = None,
    rename_dim: Annotated[
        _Names, typer.Option(metavar="OLD=NEW", help="Rename an open dimension.")
    ] = None,
    prefix: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Begin all names with TEXT.")
    ] = None,
    deduplicate: Annotated[
        bool, typer.Option("--deduplicate", help="Keep one of equal weights.")
    ] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Leave out what no output needs.")] = False,
    external_data: _External = False,
    limit: _Limit = None,
    as_json: _Json = False,
) -> None:
    """Change a model: sizes, names, functions, outputs; in the order of these options."""
    from sardonyx.cli.compose import EditOptions, edit_file
    from sardonyx.cli.options import parse_limits

    options = EditOptions(
        inline=inline,
        inline_functions=inline_function or [],
        remove=remove or [],
        add_outputs=add_output or [],
        dims=dim or [],
        batch=batch,
        fix=fix or [],
        opset=opset or [],
        rename=rename or [],
        rename_nodes=rename_node or [],
        rename_functions=rename_function or [],
        rename_dims=rename_dim or [],
        prefix=prefix,
        deduplicate=deduplicate,
        prune=prune,
    )
    limits = parse_limits(limit or [])
    edit_file(model, target, options, external_data=external_data, limits=limits, as_json=as_json)


@app.command()
@boundary
def extract(
    model: _Model,
    target: _Target,
    source: Annotated[
        _Names, typer.Option("--from", metavar="NAME", help="An input of the part.")
    ] = None,
    end: Annotated[
        _Names, typer.Option("--to", metavar="NAME", help="An output of the part.")
    ] = None,
    external_data: _External = False,
    limit: _Limit = None,
    as_json: _Json = False,
) -> None:
    """Cut a part out of a model, between any values."""
    from sardonyx.cli.compose import extract_file
    from sardonyx.cli.options import parse_limits

    extract_file(
        model,
        target,
        inputs=source or [],
        outputs=end or [],
        external_data=external_data,
        limits=parse_limits(limit or []),
        as_json=as_json,
    )


@app.command()
@boundary
def merge(
    first: Annotated[
        str, typer.Argument(metavar="FIRST", help="The model that runs first.", show_default=False)
    ],
    second: Annotated[
        str,
        typer.Argument(metavar="SECOND", help="The model that goes on.", show_default=False),
    ],
    target: _Target,
    connect: Annotated[
        _Names,
        typer.Option(metavar="OUTPUT=INPUT", help="What feeds what; by default like names."),
    ] = None,
    prefix_first: Annotated[
        str, typer.Option(metavar="TEXT", help="Begin all names of FIRST with TEXT.")
    ] = "",
    prefix_second: Annotated[
        str, typer.Option(metavar="TEXT", help="Begin all names of SECOND with TEXT.")
    ] = "",
    end: Annotated[_Names, typer.Option("--to", metavar="NAME", help="Only this output.")] = None,
    external_data: _External = False,
    limit: _Limit = None,
    as_json: _Json = False,
) -> None:
    """Join two models: outputs of the first become inputs of the second."""
    from sardonyx.cli.compose import merge_files
    from sardonyx.cli.options import parse_limits

    merge_files(
        (first, second),
        target,
        connections=connect or [],
        prefixes=(prefix_first, prefix_second),
        outputs=end or [],
        external_data=external_data,
        limits=parse_limits(limit or []),
        as_json=as_json,
    )


@app.command()
@boundary
def optimize(
    model: _Model,
    target: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="PATH", help="The .onnx or .onnxtxt file to write."),
    ] = None,
    basic: Annotated[
        bool, typer.Option("--basic", help="Only what keeps every number as it is.")
    ] = False,
    only: Annotated[
        _Names,
        typer.Option("--pass", metavar="NAME", help="Only this pass or rule; may be repeated."),
    ] = None,
    opset: Annotated[
        int | None,
        typer.Option(min=1, help="Import this opset first, where no operator changed until it."),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare numbers, and name the rule if they differ.")
    ] = False,
    explain: Annotated[
        str | None,
        typer.Option(metavar="RULE", help="Say where this rule nearly applies; write nothing."),
    ] = None,
    external_data: _External = False,
    limit: _Limit = None,
    as_json: _Json = False,
) -> None:
    """Make a model smaller and faster, with the same numbers."""
    from sardonyx.cli.optimize import explain_rule, optimize_file
    from sardonyx.cli.options import parse_limits

    limits = parse_limits(limit or [])
    if explain is not None:
        explain_rule(model, explain, limits=limits, as_json=as_json)
        return
    optimize_file(
        model,
        target,
        level="basic" if basic else "full",
        passes=only or [],
        opset=opset,
        verify=verify,
        external_data=external_data,
        limits=limits,
        as_json=as_json,
    )
