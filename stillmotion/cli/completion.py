"""`stillmotion completion`: a script that makes the shell complete commands and options."""

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete

SHELLS = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}
NAME, VARIABLE = "stillmotion", "_STILLMOTION_COMPLETE"  # what click looks for


@click.command()
@click.argument("shell", type=click.Choice(list(SHELLS)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script for SHELL.

    \b
    bash:  eval "$(stillmotion completion bash)"       in ~/.bashrc
    zsh:   eval "$(stillmotion completion zsh)"        in ~/.zshrc
    fish:  stillmotion completion fish | source        in ~/.config/fish/config.fish
    """
    click.echo(SHELLS[shell](context.find_root().command, {}, NAME, VARIABLE).source())
