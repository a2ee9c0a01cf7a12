"""`turnout update`: checks whether the alias of a model's newest version now points to another version."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from turnout.cli.conversion_options import ConversionOptions, takes_conversion_options
from turnout.cli.options import DEFAULT_MANIFEST, ManifestOption, load
from turnout.cli.output import CommandError, notify, say, sentence_of
from turnout.cli.repeated_command import repeat_command

if TYPE_CHECKING:
    from turnout.conversion.jobs import JobLimits
    from turnout.manifest.parser import Manifest, Version

ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="A model that was added from an alias.")]
AddOption = Annotated[
    str, typer.Option("--add", metavar="VERSION", help="Add the alias's version under this name.", show_default=False)
]


@takes_conversion_options
def update(
    context: typer.Context,
    model: ModelArgument,
    *,
    add: AddOption = "",
    options: ConversionOptions,
    manifest: ManifestOption = DEFAULT_MANIFEST,
) -> None:
    """Check whether an MLflow alias stands for a newer version.

    With --add, adds that version to the model, like `turnout add` and with its options. Without --add, changes nothing.
    Existing versions never change.
    """
    from turnout.cli.commands.add import add_version
    from turnout.conversion.errors import ConversionError

    project = load(manifest)
    version = aliased_version(project.manifest, model)
    assert version.source is not None
    address = version.source.address
    try:
        choices = options.choices(context, address)
        revision = current_revision(address, choices.limits)
        known = [entry for entry in project.manifest.model(model).versions if has_revision(entry, address, revision)]
        if known:
            say(f"{address} is version {revision}, which {model} {known[-1].name} has. Nothing to add.")
            return
        say(f"{address} is version {revision} now, and {model} {version.name} has version {version.source.revision}.")
        if add:
            add_version(model, add, address, options.given_files(), choices, manifest, as_json=False)
            return
    except ConversionError as error:
        raise CommandError(sentence_of(error.message), error.hint, code=error.code) from error
    say(f"Add it as a new version:\n\n    {repeat_command(context, {'add': 'VERSION'})}")


def aliased_version(manifest: Manifest, model: str) -> Version:
    """The newest version of a model that was added from an alias."""
    models = {entry.name: entry for entry in manifest.models}
    if model not in models:
        raise CommandError(f"{manifest.source} has no model {model}.", f"It has: {', '.join(models)}.")
    for version in reversed(models[model].versions):
        if version.source is not None and is_alias(version.source.address):
            return version
    raise CommandError(
        f"no version of {model} was added from an alias.",
        "Add one from an alias first: turnout add MODEL VERSION mlflow:NAME@ALIAS",
    )


def is_alias(address: str) -> bool:
    """Whether an address names an alias, which may stand for another version later."""
    return address.startswith(("mlflow:", "models:/")) and "@" in address


def has_revision(version: Version, address: str, revision: str) -> bool:
    """Whether a version is this revision of the same registered model."""
    source = version.source
    return (
        source is not None
        and registered_name(source.address) == registered_name(address)
        and source.revision == revision
    )


def registered_name(address: str) -> str:
    """Return the name of the registered model in an MLflow address."""
    name = address.removeprefix("mlflow:").removeprefix("models:/")
    return name.rpartition("@")[0] if "@" in name else name.rpartition("/")[0]


def current_revision(address: str, limits: JobLimits) -> str:
    """Return the version that an alias points to now."""
    from turnout.conversion.registries.mlflow import resolve_revision
    from turnout.conversion.sources import Order

    with TemporaryDirectory(prefix="turnout-") as scratch:
        order = Order(address, Path(scratch, "model"), "", limits, lambda text: notify(f"{text} ..."))
        return resolve_revision(order)
