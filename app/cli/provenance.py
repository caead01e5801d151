"""`stillmotion provenance`: the content credentials of a clip, and whether they still hold."""

import json
from pathlib import Path
from typing import Any

import click

from app.cli.failures import ServerCommand
from stillmotion.cli.exit_status import ExitStatus
from stillmotion.cli.options import json_option


@click.command(
    cls=ServerCommand,
    epilog="Exit status: 0 they hold, 2 wrong usage, 7 none found, the file was changed, or "
    "--trust does not cover its signer.",
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--trust",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="PEM file of the root certificates to trust. Any other signer is then an error.",
)
@json_option
def provenance(file: Path, trust: Path | None, as_json: bool) -> int:
    """Print the content credentials (C2PA) of FILE."""
    try:
        import c2pa  # 20 MB of native code that only this command needs
    except ImportError:
        raise click.UsageError(
            "install the extra `provenance` to read content credentials"
        ) from None
    settings: dict[str, Any] = {"verify": {"verify_trust": True, "remote_manifest_fetch": False}}
    try:
        if trust is not None:
            settings["trust"] = {"trust_anchors": trust.read_text()}
        with file.open("rb") as stream:
            reader = c2pa.Reader(None, stream, context=c2pa.Context.from_dict(settings))
        store = json.loads(reader.json())
    except c2pa.C2paError.ManifestNotFound:
        click.echo(f"{file}: no content credentials.", err=True)
        return ExitStatus.NO_CREDENTIALS
    except (c2pa.C2paError, UnicodeDecodeError) as error:
        click.echo(f"{file}: unreadable content credentials: {error}", err=True)
        return ExitStatus.NO_CREDENTIALS
    state = store["validation_state"]
    if as_json:
        click.echo(json.dumps(store, indent=2, ensure_ascii=False))
    else:
        for line in _lines(store):
            click.echo(line)
    if trust is not None and state == "Valid":
        click.echo(f"{file}: signed by somebody whom {trust} does not trust.", err=True)
    holds = ("Trusted",) if trust is not None else ("Trusted", "Valid")
    return ExitStatus.OK if state in holds else ExitStatus.NO_CREDENTIALS


MEANINGS = {
    "Trusted": "unchanged since a trusted signer signed it",
    "Valid": "unchanged since it was signed; the signer is not a trusted one",
    "Invalid": "changed since it was signed, or wrongly signed",
}


def _lines(store: dict[str, Any]) -> list[str]:
    state = store["validation_state"]
    manifest = store["manifests"][store["active_manifest"]]
    lines = [f"state      {state}: {MEANINGS.get(state, 'unknown')}"]
    if signature := manifest.get("signature_info"):
        lines.append(f"signed by  {signature.get('common_name')} ({signature.get('issuer')})")
    for made_by in manifest.get("claim_generator_info", []):
        lines.append(f"made with  {_named(made_by)}")
    for assertion in manifest.get("assertions", []):
        if assertion["label"].startswith("c2pa.actions"):
            lines += [_action(action) for action in assertion["data"]["actions"]]
    return lines


def _action(action: dict[str, Any]) -> str:
    source = action.get("digitalSourceType", "").rpartition("/")[2]
    parts = [action["action"], source, _named(action.get("softwareAgent")), action.get("when", "")]
    return f"action     {', '.join(filter(None, parts))}"


def _named(agent: object) -> str:
    """Name and version; older manifests have a plain string."""
    if not isinstance(agent, dict):
        return str(agent or "")
    return f"{agent.get('name', '')} {agent.get('version', '')}".strip()
