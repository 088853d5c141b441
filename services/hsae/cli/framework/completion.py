"""hsae-admin completion: the shell completes commands, options, and what the catalog knows."""

from contextlib import suppress

import click
from click.shell_completion import CompletionItem, get_completion_class

from hsae.cli.framework.connections import Connections
from hsae.errors import HsaeError, UserError

PROGRAM = "hsae-admin"
_VARIABLE = "_HSAE_ADMIN_COMPLETE"
_INSTALL = {
    "bash": "hsae-admin completion bash > ~/.local/share/bash-completion/completions/hsae-admin",
    "zsh": "hsae-admin completion zsh > ~/.zfunc/_hsae-admin   (with `fpath+=~/.zfunc` before compinit in ~/.zshrc)",
    "fish": "hsae-admin completion fish > ~/.config/fish/completions/hsae-admin.fish",
}
_CONNECT_SECONDS = 2
_QUERY_MILLISECONDS = 1000
_N_COMPLETIONS = 50

_JOBS = "SELECT id::text, state || ': ' || title FROM job WHERE id::text LIKE :start ORDER BY job.id DESC LIMIT :n"
_STUDIES = "SELECT id::text, name FROM study WHERE id::text LIKE :start ORDER BY study.id DESC LIMIT :n"
_DATASETS = (
    "SELECT name, n_images || ' images' FROM dataset WHERE starts_with(name, :start) ORDER BY dataset.id LIMIT :n"
)


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


def complete_jobs(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Ids of jobs, the latest first."""
    return _ask(ctx, _JOBS, f"{incomplete}%") if incomplete.isdecimal() or not incomplete else []


def complete_studies(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Ids of studies, the latest first."""
    return _ask(ctx, _STUDIES, f"{incomplete}%") if incomplete.isdecimal() or not incomplete else []


def complete_datasets(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Names of registered data sets."""
    return _ask(ctx, _DATASETS, incomplete)


def _ask(ctx: click.Context, query: str, start: str) -> list[CompletionItem[str]]:
    """What the catalog says, if it does so at once; nobody wants an error in the middle of a command line."""
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.pool import NullPool

    from hsae.catalog import database_url

    connections = ctx.find_object(Connections) or Connections()
    with suppress(HsaeError, SQLAlchemyError):
        engine = create_engine(
            database_url(connections.settings),
            poolclass=NullPool,
            connect_args={
                "connect_timeout": _CONNECT_SECONDS,
                "options": f"-c statement_timeout={_QUERY_MILLISECONDS}",
            },
        )
        with engine.connect() as connection:
            rows = connection.execute(text(query), {"start": start, "n": _N_COMPLETIONS}).all()
        return [CompletionItem(value, help=words) for value, words in rows]
    return []
