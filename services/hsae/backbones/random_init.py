"""What randomly initialised weights are drawn from: their identity."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version

from hsae.backbones.names import random_init_name
from hsae.backbones.sources import Source, checksum, description_files
from hsae.backbones.spec import RandomInit
from hsae.errors import UserError

# Raised whenever the same files, seed and libraries would give other weights than before.
RANDOM_INIT_FORMAT = 1
# torch draws the numbers, transformers decides which of them each weight gets.
_LIBRARIES = ("torch", "transformers")


def as_random(source: Source, seed: int) -> tuple[Source, RandomInit]:
    """The randomly initialised model of these files.

    Its revision is a checksum of everything that the weights are drawn from: the files without weights, the seed, and
    the versions of the libraries. So nothing has to be drawn to know it.
    """
    libraries = versions(_LIBRARIES)
    revision = random_revision(checksum(description_files(source.folder)), seed, libraries)
    random = RandomInit(seed=seed, files=source.name, files_revision=source.revision, libraries=libraries)
    return Source(random_init_name(source.name, seed), revision, source.folder), random


def random_revision(files: str, seed: int, libraries: Mapping[str, str]) -> str:
    """The revision of random weights: a checksum of everything that they are drawn from.

    Args:
        files: checksum of the files that say what is drawn.
        seed: seed of the generator.
        libraries: by name the versions of the libraries that draw.
    """
    content = {"format": RANDOM_INIT_FORMAT, "files": files, "seed": seed, "libraries": dict(libraries)}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return f"random-{hashlib.sha256(canonical.encode()).hexdigest()}"


def check_libraries(random: RandomInit, name: str) -> None:
    """Check that the libraries here draw the weights that were asked for.

    Raises:
        UserError: they are of other versions.
    """
    here = versions(tuple(random.libraries))
    if here != random.libraries:
        raise UserError(
            f"the weights of {name} are those that {_listed(random.libraries)} draw, and here are {_listed(here)}: "
            "install the same versions on the worker and where jobs are submitted, or submit anew"
        )


def versions(names: Sequence[str]) -> dict[str, str]:
    """Versions without the part that names the build (+cpu, +cu128): weights are always drawn on the CPU."""
    return {name: version(name).partition("+")[0] for name in names}


def _listed(libraries: dict[str, str]) -> str:
    return " and ".join(f"{name} {number}" for name, number in libraries.items())
