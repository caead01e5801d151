"""`stillmotion completion`: a shell's script that completes our commands and options."""

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete

SHELLS = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}
NAME, VARIABLE = "stillmotion", "_STILLMOTION_COMPLETE"  # what click looks for when it is called


@click.command()
@click.argument("shell", type=click.Choice(list(SHELLS)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script by which SHELL completes this command.

    \b
    bash:  eval "$(stillmotion completion bash)"       in ~/.bashrc
    zsh:   eval "$(stillmotion completion zsh)"        in ~/.zshrc
    fish:  stillmotion completion fish | source        in ~/.config/fish/config.fish
    """
    click.echo(SHELLS[shell](context.find_root().command, {}, NAME, VARIABLE).source())
