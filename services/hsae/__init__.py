"""hsae: how a vision transformer organises the world, measured by sparse autoencoders against WordNet."""


def __getattr__(name: str) -> str:
    if name == "__version__":
        from importlib.metadata import version  # here: its import takes longer than all else of a command's help

        return version("hsae")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
