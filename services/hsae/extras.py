"""Packages that hsae can do without: how an error tells a user to install them."""


def install_extra(extra: str) -> str:
    """The command that installs an extra of hsae's, where hsae itself came from: its checkout."""
    return f"in hsae's checkout run `pip install '.[{extra}]'`"
