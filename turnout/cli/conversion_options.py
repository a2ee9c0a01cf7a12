"""The options of the commands that convert a model and prove that it answers the same: `add` and `update`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from turnout.cli.output import CommandError
from turnout.cli.repeated_command import repeat_command

if TYPE_CHECKING:
    from turnout.conversion.conversion import Choices


@dataclass(frozen=True, slots=True)
class GivenFiles:
    """The files and settings that the user passes besides the model."""

    examples: Path | None = None
    transform: Path | None = None
    signature: Path | None = None
    requirements: tuple[str, ...] = ()
    breaking: bool = False


@dataclass(frozen=True, slots=True)
class ConversionOptions:
    """The shared options, in the order of the help."""

    examples: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Requests with expected outputs, copied next to the model.")
    ] = None
    transform: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Python file with preprocess and postprocess, copied next to the model."),
    ] = None
    requirement: Annotated[
        list[str] | None,
        typer.Option("--requirement", metavar="PACKAGE", help="A package that the Python code imports. Repeatable."),
    ] = None
    runtime: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="The runtime: onnx, or python to serve a model with its own library. Default: by suffix.",
        ),
    ] = ""
    module: Annotated[
        list[Path] | None,
        typer.Option(
            "--module",
            metavar="FILE",
            help="A Python file with classes that a model was saved with, for --runtime python. Repeatable.",
        ),
    ] = None
    breaking: Annotated[
        bool,
        typer.Option(
            "--breaking", help="Accept a version that changes the inputs or outputs of the version it replaces."
        ),
    ] = False
    samples: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Rows to compare a converted model with its original: CSV, Parquet, JSON, .npy."
        ),
    ] = None
    rtol: Annotated[
        float, typer.Option(metavar="X", min=0.0, help="Largest relative difference of floats after a conversion.")
    ] = 1e-4
    atol: Annotated[
        float, typer.Option(metavar="X", min=0.0, help="Largest absolute difference, added to the relative one.")
    ] = 1e-5
    trust_pickle: Annotated[
        bool,
        typer.Option(
            "--trust-pickle", help="Load a pickle, which can run any code. Use only if you know the file's origin."
        ),
    ] = False
    trust: Annotated[
        list[str] | None,
        typer.Option("--trust", metavar="TYPE", help="A type that a .skops file may load. Repeatable."),
    ] = None
    converter: Annotated[
        str, typer.Option(metavar="NAME", help="The converter, if the file's suffix does not identify it.")
    ] = ""
    time_limit: Annotated[float, typer.Option(metavar="SECONDS", min=1.0, help="Time limit of a conversion.")] = 900.0
    memory_limit: Annotated[int, typer.Option(metavar="MB", min=256, help="Memory limit of a conversion.")] = 8192

    def given_files(self, signature: Path | None = None) -> GivenFiles:
        """Return the files that are copied next to the model."""
        return GivenFiles(self.examples, self.transform, signature, tuple(self.requirement or ()), self.breaking)

    def choices(self, context: typer.Context, source: str, sha256: str = "") -> Choices:
        """Return how to convert a model; raise a CommandError if an option is invalid.

        Args:
            context: the running command's context.
            source: the model's address.
            sha256: the digest that a downloaded file must have, or empty.
        """
        from turnout.artifacts.examples import Tolerance
        from turnout.conversion.conversion import Choices
        from turnout.conversion.jobs import JobLimits

        return Choices(
            self.samples,
            Tolerance(absolute=self.atol, relative=self.rtol),
            self.trust_pickle,
            tuple(self.trust or ()),
            self.converter,
            sha256,
            JobLimits(self.time_limit, self.memory_limit),
            checked_runtime(self.runtime, source),
            checked_modules(self.module or (), self.runtime),
            tuple(self.requirement or ()),
            # Without --transform: with the Python runtime, the Python file does that work.
            repeat_command(context, {"runtime": "python"}, without={"transform"}),
        )


NAMES = tuple(field.name for field in fields(ConversionOptions))


def takes_conversion_options(command: Callable[..., None]) -> Callable[..., None]:
    """Return the command with an option for each field, instead of its parameter `options`."""
    shared = inspect.signature(ConversionOptions).parameters
    hints = get_type_hints(ConversionOptions, include_extras=True)
    own_hints = get_type_hints(command, include_extras=True)
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name != "options":
            parameters.append(parameter.replace(annotation=own_hints[parameter.name]))
            continue
        for name in NAMES:
            keyword = inspect.Parameter.KEYWORD_ONLY
            parameters.append(inspect.Parameter(name, keyword, default=shared[name].default, annotation=hints[name]))

    @wraps(command)
    def run(**values: Any) -> None:
        options = ConversionOptions(**{name: values.pop(name) for name in NAMES})
        command(**values, options=options)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # typer reads the parameters here
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def checked_runtime(runtime: str, source: str) -> str:
    """Return the runtime that the user names, or nothing.

    Raise a CommandError if it is unknown or cannot read the file.
    """
    from turnout.runtimes.registry import RUNTIMES, find_runtime

    if runtime and runtime not in RUNTIMES:
        raise CommandError(f"unknown runtime {runtime!r}.", f"Known runtimes: {', '.join(RUNTIMES)}.")
    by_suffix = find_runtime(Path(source)).name
    if runtime and by_suffix == "python" != runtime:
        raise CommandError(f"{source} is a Python file, not a model for `runtime: {runtime}`.", "Leave --runtime out.")
    return runtime


def checked_modules(modules: Sequence[Path], runtime: str) -> tuple[Path, ...]:
    """Return the files of --module; raise a CommandError if one is not a Python file, or nothing would use them."""
    if modules and runtime != "python":
        raise CommandError("--module needs --runtime python.", "Add --runtime python.")
    for module in modules:
        if not module.is_file() or not module.stem.isidentifier() or module.suffix != ".py":
            raise CommandError(f"--module {module} is not a Python file.", "Name a file such as features.py.")
        if module.name == "predict.py":
            raise CommandError("--module cannot be predict.py, a name that is reserved.", "Rename that file.")
    return tuple(modules)
