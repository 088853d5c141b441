"""hsae-admin completion: the shell completes commands, options, and what the catalog knows."""

import click
from click.shell_completion import get_completion_class

from hsae.errors import UserError

PROGRAM = "hsae-admin"
_VARIABLE = "_HSAE_ADMIN_COMPLETE"
_INSTALL = {
    "bash": "hsae-admin completion bash > ~/.local/share/bash-completion/completions/hsae-admin",
    "zsh": "hsae-admin completion zsh > ~/.zfunc/_hsae-admin   (with `fpath+=~/.zfunc` before compinit in ~/.zshrc)",
    "fish": "hsae-admin completion fish > ~/.config/fish/completions/hsae-admin.fish",
}


@click.command()
@click.argument("shell", type=click.Choice(sorted(_INSTALL)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a SHELL; its last line says where to put it."""
    kind = get_completion_class(shell)
    if kind is None:
        raise UserError(f"there is no completion for {shell}: choose from {', '.join(sorted(_INSTALL))}")
    click.echo(kind(ctx.find_root().command, {}, PROGRAM, _VARIABLE).source().strip())
    click.echo(f"# To install: {_INSTALL[shell]}")
