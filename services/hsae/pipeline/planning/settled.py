"""A request with what only the place of the submit knows: its hook point, and what its stages' settings name."""

from hsae.backbones.hooks.names import RESIDUAL
from hsae.backbones.inspection import describe
from hsae.pipeline.kinds.registry import stage_of
from hsae.pipeline.planning.requests import SubmitRequest
from hsae.settings import Settings


def settled(request: SubmitRequest, settings: Settings) -> SubmitRequest:
    """The request with its hook point and with the settings of its stages as jobs need them.

    Raises:
        UserError: the model has no such hook point, or a stage cannot be had as it is asked for.
    """
    own = {kind: stage_of(kind).settled(given, settings.model_cache) for kind, given in request.own.items()}
    if own != request.own:
        request = request.model_copy(update={"own": own})
    return settled_hook(request, settings)


def settled_hook(request: SubmitRequest, settings: Settings) -> SubmitRequest:
    """The request with its hook point by the canonical name, and with the layer where the hook point names it.

    Raises:
        UserError: the model has no such hook point, the request asks for other layers, or for none.
    """
    hook = request.extraction.hook
    if hook == RESIDUAL:
        return request
    described = describe(
        request.model, revision=request.revision, cache_dir=settings.model_cache, random_seed=request.random_init
    )
    hook, layers = described.settled_layers(hook, request.layers)
    extraction = request.extraction.model_copy(update={"hook": hook})
    return request.model_copy(update={"extraction": extraction, "layers": layers})
