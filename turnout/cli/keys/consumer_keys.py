"""`turnout keys list|issue|rotate|retire`: the keys of a stage's consumers."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from turnout.cli.canary.target import editing_alone
from turnout.cli.options import DEFAULT_MANIFEST, JsonOption, ManifestOption, read_manifest
from turnout.cli.output import CommandError, notify, say, say_json, say_table
from turnout.system.signals import ignore_endings
from turnout.wording import did_you_mean, listed

if TYPE_CHECKING:
    from turnout.gateway.editions.consumer_keys import KeyName
    from turnout.manifest.parser import Consumer, Manifest

MOST_KEYS = 2

StageArgument = Annotated[str, typer.Argument(metavar="STAGE", help="The stage.")]
OptionalStage = Annotated[str, typer.Argument(metavar="STAGE", help="Only this stage.", show_default=False)]
ConsumerArgument = Annotated[str, typer.Argument(metavar="CONSUMER", help="The consumer.")]
KeyOption = Annotated[
    str, typer.Option("--key", metavar="KEY", help="The key's name. Default: the first one.", show_default=False)
]


def list_keys(
    stage: OptionalStage = "", *, manifest: ManifestOption = DEFAULT_MANIFEST, as_json: JsonOption = False
) -> None:
    """List consumers and their keys.

    Prints names, not keys: Turnout keeps only the digests of keys. MADE HERE is the day when this machine made the key.
    """
    from turnout.gateway.editions.consumer_keys import read_consumer_keys

    read = read_manifest(manifest)
    kept = read_consumer_keys(read.path.parent / ".turnout")
    rows: list[dict[str, Any]] = [
        {
            "stage": candidate.name,
            "consumer": consumer.name,
            "key": key,
            "made": made.made if (made := kept.get((candidate.name, consumer.name, key))) else "",
            "expires": consumer.expires,
            "models": None if consumer.models is None else list(consumer.models),
        }
        for candidate in read.stages
        if stage in {"", candidate.name}
        for consumer in candidate.consumers
        for key in consumer.keys
    ]
    if stage and stage not in {candidate.name for candidate in read.stages}:
        raise _unknown("stage", stage, [candidate.name for candidate in read.stages])
    if as_json:
        say_json(rows)
    elif rows:
        say_table(
            ("STAGE", "CONSUMER", "KEY", "MADE HERE", "EXPIRES", "MODELS"),
            [
                (
                    row["stage"],
                    row["consumer"],
                    row["key"],
                    row["made"] or "-",
                    row["expires"] or "-",
                    "all" if row["models"] is None else ", ".join(row["models"]),
                )
                for row in rows
            ],
        )
    else:
        say("No stage has consumers.")


def issue(
    stage: StageArgument,
    consumer: ConsumerArgument,
    *,
    key: KeyOption = "",
    manifest: ManifestOption = DEFAULT_MANIFEST,
) -> None:
    """Make a consumer's key on this machine and print it once.

    Turnout keeps only the key's digest, in .turnout/consumer_keys.json, so a key cannot be printed again. If it is
    lost, make another with `turnout keys rotate` and delete the lost one with `turnout keys retire`.
    """
    with editing_alone(manifest):
        read = read_manifest(manifest)
        named = _find_consumer(read, stage, consumer)
        chosen = _choose_key(named, key)
        ignore_endings()  # the key is printed once
        value = _make(read.path.parent, (stage, consumer, chosen))
    if not value:
        raise CommandError(
            f"{consumer} of {stage} already has the key {chosen}, and only its digest is kept.",
            f"Make another with `turnout keys rotate {stage} {consumer}`.",
        )
    say(value)
    notify(f"Created key {chosen} of {consumer}. It is not shown again. Reload the server to accept it.")


def rotate(stage: StageArgument, consumer: ConsumerArgument, *, manifest: ManifestOption = DEFAULT_MANIFEST) -> None:
    """Add a second key to a consumer and print it once.

    Edits models.yaml. Both keys work until `turnout keys retire` deletes the older one. On AWS, `pulumi up` makes
    the new key, and `pulumi stack output consumer_keys --show-secrets` prints it.
    """
    with editing_alone(manifest):
        read = read_manifest(manifest)
        named = _find_consumer(read, stage, consumer)
        if len(named.keys) >= MOST_KEYS:
            raise CommandError(
                f"{consumer} of {stage} already has {MOST_KEYS} keys: {listed(named.keys)}.",
                f"Delete the older one with `turnout keys retire {stage} {consumer}`.",
            )
        new = _next_name(named.keys)
        ignore_endings()  # the key is printed once
        _write_keys(read, stage, consumer, [*named.keys, new])
        value = _make(read.path.parent, (stage, consumer, new), anew=True)
    say(value)
    notify(
        f"Added key {new} of {consumer} to {read.source}. It is not shown again. "
        f"{named.keys[0]} works until `turnout keys retire {stage} {consumer}`."
    )


def retire(
    stage: StageArgument,
    consumer: ConsumerArgument,
    *,
    key: KeyOption = "",
    manifest: ManifestOption = DEFAULT_MANIFEST,
) -> None:
    """Delete a consumer's older key.

    Edits models.yaml. To delete the last key, delete the consumer there.
    """
    from turnout.gateway.editions.consumer_keys import drop_consumer_keys

    with editing_alone(manifest):
        read = read_manifest(manifest)
        named = _find_consumer(read, stage, consumer)
        chosen = _choose_key(named, key)
        left = [name for name in named.keys if name != chosen]
        if not left:
            raise CommandError(
                f"{chosen} is the only key of {consumer}.",
                f"Rotate it (`turnout keys rotate {stage} {consumer}`), or delete the consumer in {read.source}.",
            )
        ignore_endings()
        _write_keys(read, stage, consumer, left)
        drop_consumer_keys(read.path.parent / ".turnout", [(stage, consumer, chosen)])
    say(f"Deleted key {chosen} of {consumer} from {read.source}. Reload the server; `pulumi up` deletes it on AWS.")


def _find_consumer(manifest: Manifest, stage: str, consumer: str) -> Consumer:
    stages = {candidate.name: candidate for candidate in manifest.stages}
    if stage not in stages:
        raise _unknown("stage", stage, list(stages))
    consumers = {candidate.name: candidate for candidate in stages[stage].consumers}
    if not consumers:
        raise CommandError(f"stage {stage} has no consumers.", f"Add them at stages.{stage}.consumers in models.yaml.")
    if consumer not in consumers:
        raise _unknown(f"consumer of {stage}", consumer, list(consumers))
    return consumers[consumer]


def _choose_key(consumer: Consumer, key: str) -> str:
    """Return the named key, or the consumer's first one."""
    if key and key not in consumer.keys:
        raise _unknown(f"key of {consumer.name}", key, consumer.keys)
    return key or consumer.keys[0]


def _unknown(kind: str, name: str, known: list[str] | tuple[str, ...]) -> CommandError:
    return CommandError(f"unknown {kind} {name!r}{did_you_mean(name, known)}.", f"Known: {listed(known)}.")


def _next_name(taken: tuple[str, ...]) -> str:
    """Return the first of `k1`, `k2`, ... after all names in use."""
    numbers = [int(name[1:]) for name in taken if name[:1] == "k" and name[1:].isdecimal()]
    return f"k{max(numbers, default=0) + 1}"


def _make(folder: Path, name: KeyName, *, anew: bool = False) -> str:
    """Make a key and return it. If the key exists, replace it with `anew`, otherwise return an empty text."""
    from turnout.gateway.editions.consumer_keys import drop_consumer_keys, make_consumer_keys

    if anew:  # the consumer may have had a key of this name before
        drop_consumer_keys(folder / ".turnout", [name])
    today = time.strftime("%Y-%m-%d", time.gmtime())
    return make_consumer_keys(folder / ".turnout", [name], today).get(name, "")


def _write_keys(manifest: Manifest, stage: str, consumer: str, keys: list[str]) -> None:
    from turnout.manifest.parser import make_manifest
    from turnout.project.manifest_file import replace_text
    from turnout.yaml_text.editor import YamlEdit

    assert manifest.read is not None
    edit = YamlEdit(manifest.read)
    edit.set(("stages", stage, "consumers", consumer), "keys", keys)
    made = edit.finish()
    make_manifest(made, path=manifest.path)
    replace_text(manifest.path, made.data.decode(), before=manifest.read.data)
