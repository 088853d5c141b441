"""A custom tree for data sets of a few made-up classes."""

TREE = """child,parent
shark,fish
bird,animal
frog,animal
fish,animal
microbe,living thing
animal,living thing
"""
