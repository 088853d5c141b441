"""hsae: how a vision transformer organises the world, measured by sparse autoencoders against WordNet."""

from importlib.metadata import version

__version__ = version("hsae")
