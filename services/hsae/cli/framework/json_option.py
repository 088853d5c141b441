"""The option of commands that print JSON for programs; it stands apart from the tables, which Rich comes with."""

import click

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
