"""`turnout keys`: the API keys of the stages served here, and the token of a running server's services."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from turnout.cli.group import Group
from turnout.cli.keys import consumer_keys
from turnout.cli.options import DEFAULT_MANIFEST, JsonOption, ManifestOption, read_manifest
from turnout.cli.output import CommandError, say, say_json, say_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

StageArgument = Annotated[
    str, typer.Argument(metavar="STAGE", help="Print only the key of this stage.", show_default=False)
]
ServicesOption = Annotated[bool, typer.Option("--services", help="Print the services token of the running server.")]
PortOption = Annotated[
    int, typer.Option("--port", metavar="PORT", help="With --services, the port of the server.", show_default=False)
]


class KeysGroup(Group):
    """`turnout keys prod` is short for `turnout keys show prod`, for compatibility with earlier releases."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]  # as in Group
        """Insert the command's name before its arguments if it was left out."""
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = [SHOW, *args]
        return super().parse_args(ctx, args)


SHOW = "show"

keys = typer.Typer(
    name="keys",
    cls=KeysGroup,
    help="Show the API keys of stages, and manage those of consumers.",
    epilog="`turnout keys STAGE` is short for `turnout keys show STAGE`.",
    rich_markup_mode=None,
    no_args_is_help=False,
)


@keys.command(SHOW)
def show(
    stage: StageArgument = "",
    *,
    services: ServicesOption = False,
    port: PortOption = 0,
    manifest: ManifestOption = DEFAULT_MANIFEST,
    as_json: JsonOption = False,
) -> None:
    """Show the API keys of the stages served on this machine.

    `turnout serve` makes a key for each stage with `auth: api_key` and keeps it in .turnout/api_keys.json. With STAGE,
    prints only its key: `curl -H "x-api-key: $(turnout keys prod)" ...`.

    For a stage with `auth: iam`, prints the access key that signs requests on this machine, for `eval`.
    """
    from turnout.project.manifest_file import manifest_path

    folder = manifest_path(manifest).parent
    if services or port:
        if stage:
            raise CommandError("--services prints a token and does not accept a stage.", "Omit the stage.")
        say(find_services_token(folder, port))
        return
    stages = read_manifest(manifest).stages
    asking = [candidate.name for candidate in stages if candidate.auth == "api_key"]
    if stage in {candidate.name for candidate in stages if candidate.auth == "iam"}:
        say_signing_key(folder, as_json=as_json)
        return
    if stage:
        check_stage(stage, [candidate.name for candidate in stages], asking)
    stage_keys = keys_of(folder, [stage] if stage else asking)
    if as_json:
        say_json(stage_keys)
    elif stage:
        say(stage_keys[stage])
    elif stage_keys:
        say_table(("STAGE", "KEY"), stage_keys.items())
    else:
        say("No stage requires an API key.")


def say_signing_key(folder: Path, *, as_json: bool) -> None:
    """Print the access key that signs requests to stages with `auth: iam`, for `eval` or as JSON."""
    from turnout.gateway.editions.signing_keys import load_signing_key

    access, secret = load_signing_key(folder / ".turnout")
    if as_json:
        say_json({"access_key_id": access, "secret_access_key": secret})
    else:
        say(f"export AWS_ACCESS_KEY_ID={access} AWS_SECRET_ACCESS_KEY={secret}")


def check_stage(stage: str, stages: Iterable[str], asking: Iterable[str]) -> None:
    """Reject a stage that does not exist or requires no key."""
    if stage not in stages:
        raise CommandError(f"unknown stage {stage!r}.", f"Known stages: {', '.join(stages)}.")
    if stage not in asking:
        raise CommandError(
            f"stage {stage} does not require an API key.", "Set `auth: api_key` on the stage to require one."
        )


def keys_of(folder: Path, stages: Iterable[str]) -> Mapping[str, str]:
    """Return stage -> key; missing keys are made."""
    from turnout.gateway.editions.api_keys import load_api_keys

    return load_api_keys(folder / ".turnout" / "api_keys.json", stages)


def find_services_token(folder: Path, port: int) -> str:
    """Return the token of the project's only server that requires one, or of the one on a port."""
    from turnout.system.service_tokens import read_tokens

    tokens = read_tokens(folder)
    matching = {number: token for number, token in tokens.items() if port in {0, number}}
    if not matching:
        where = f" on port {port}" if port else ""
        message = f"no running server of this project{where} requires a token."
        raise CommandError(message, "Start one with `turnout serve --services token`.", code=1)
    if len(matching) > 1:
        raise CommandError(f"servers run on ports {', '.join(map(str, sorted(matching)))}.", "Choose one with --port.")
    return next(iter(matching.values()))


keys.command("list")(consumer_keys.list_keys)
keys.command("issue")(consumer_keys.issue)
keys.command("rotate")(consumer_keys.rotate)
keys.command("retire")(consumer_keys.retire)
