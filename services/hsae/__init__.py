"""hsae: how a vision transformer organises the world, measured by sparse autoencoders against WordNet.

`hsae.open()` gives a running service: its studies, latents and images. `hsae.extract`, `hsae.split`, `hsae.train` and
`hsae.score` work on arrays in memory, without any server. docs/api.md shows both. A name is imported when it is first
used.
"""

TYPE_CHECKING = False  # type checkers know the name; typing takes longer to import than all else of a command's help
if TYPE_CHECKING:
    from hsae.api.arrays.extraction import Extracted, extract
    from hsae.api.arrays.parts import split
    from hsae.api.arrays.scores import Scores
    from hsae.api.arrays.scoring import score
    from hsae.api.arrays.steering import steer
    from hsae.api.arrays.training import Trained, train
    from hsae.api.service.activations import Activations
    from hsae.api.service.analysis import Analysis
    from hsae.api.service.study import Study
    from hsae.api.service.submission import Submission
    from hsae.api.service.workspace import Workspace, open
    from hsae.api.shown.edited import Edited
    from hsae.api.shown.explanation import Explanation
    from hsae.api.shown.gallery import Gallery
    from hsae.api.shown.similar import SimilarImages
    from hsae.errors import HsaeError, ServiceError, UserError
    from hsae.hierarchy.config import ScoringConfig
    from hsae.hierarchy.scored_activations import ImageParts
    from hsae.interventions.steering.hooked import Steering
    from hsae.sae.config import SaeConfig
    from hsae.sae.model import SparseAutoencoder
    from hsae.split_config import SplitConfig

    __version__: str

_PLACES = {
    "Activations": "hsae.api.service.activations",
    "Analysis": "hsae.api.service.analysis",
    "Edited": "hsae.api.shown.edited",
    "Explanation": "hsae.api.shown.explanation",
    "Extracted": "hsae.api.arrays.extraction",
    "Gallery": "hsae.api.shown.gallery",
    "HsaeError": "hsae.errors",
    "ImageParts": "hsae.hierarchy.scored_activations",
    "SaeConfig": "hsae.sae.config",
    "Scores": "hsae.api.arrays.scores",
    "ScoringConfig": "hsae.hierarchy.config",
    "ServiceError": "hsae.errors",
    "SimilarImages": "hsae.api.shown.similar",
    "SparseAutoencoder": "hsae.sae.model",
    "SplitConfig": "hsae.split_config",
    "Steering": "hsae.interventions.steering.hooked",
    "Study": "hsae.api.service.study",
    "Submission": "hsae.api.service.submission",
    "Trained": "hsae.api.arrays.training",
    "UserError": "hsae.errors",
    "Workspace": "hsae.api.service.workspace",
    "extract": "hsae.api.arrays.extraction",
    "open": "hsae.api.service.workspace",
    "score": "hsae.api.arrays.scoring",
    "split": "hsae.api.arrays.parts",
    "steer": "hsae.api.arrays.steering",
    "train": "hsae.api.arrays.training",
}

__all__ = [
    "Activations",
    "Analysis",
    "Edited",
    "Explanation",
    "Extracted",
    "Gallery",
    "HsaeError",
    "ImageParts",
    "SaeConfig",
    "Scores",
    "ScoringConfig",
    "ServiceError",
    "SimilarImages",
    "SparseAutoencoder",
    "SplitConfig",
    "Steering",
    "Study",
    "Submission",
    "Trained",
    "UserError",
    "Workspace",
    "__version__",
    "extract",
    "open",
    "score",
    "split",
    "steer",
    "train",
]


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version  # here: its import takes longer than all else of a command's help

        return version("hsae")
    if name in _PLACES:
        from importlib import import_module  # here: `import hsae` imports nothing at all

        value = getattr(import_module(_PLACES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
