"""Checks whether a request's activations are enough to train its SAEs."""

from hsae.backbones.hooks.names import RESIDUAL
from hsae.backbones.spec import BackboneSpec, n_tokens
from hsae.pipeline.kinds.setting_labels import sae_label
from hsae.pipeline.planning.requests import SubmitRequest
from hsae.sae.config import n_held_out, n_latents_of

_MOST_VIEWS = 64


def few_rows_warning(request: SubmitRequest, spec: BackboneSpec, n_images: int) -> str | None:
    """One line about the SAEs with more latents than training rows, with the numbers of the worst, or None.

    Args:
        request: the SAEs and their rows.
        spec: the backbone.
        n_images: images that train: those of the part `train` where there is a split.
    """
    extraction = request.extraction
    n_drawn = extraction.patches_per_image
    rows_of_image = n_tokens(spec, extraction.tokens, hook=extraction.hook, n_sampled=n_drawn)
    known = spec.shapes if extraction.hook == RESIDUAL else spec.hook_shapes
    width = max(shape.width for shape in (known or {0: spec.shape(0)}).values())
    rows_of_view = {
        sae: (n_images - n_held_out(n_images, sae.holdout_share)) * rows_of_image
        for sae in request.saes
        if sae.imported is None
    }
    n_views = request.extraction.n_views
    wide = [sae for sae, rows in rows_of_view.items() if rows * n_views < n_latents_of(sae, width)]
    if not wide:
        return None
    worst = max(wide, key=lambda sae: n_latents_of(sae, width) / max(1, rows_of_view[sae]))
    n_rows, n_latents = rows_of_view[worst] * n_views, n_latents_of(worst, width)
    others = f" (and so for {len(wide) - 1} more of the {len(rows_of_view)} SAEs)" if len(wide) > 1 else ""
    views = -(-n_latents // max(1, rows_of_view[worst]))
    fitting = n_rows // width
    remedies = ["more images"]
    if fitting:
        remedies.append(f"--expansion {fitting} or less" if fitting > 1 else "--expansion 1")
    if views <= _MOST_VIEWS:
        remedies.append(f"--views {views} (augmented images)")
    return (
        f"{n_rows} training rows are fewer than the {n_latents} latents of {sae_label(worst)}{others}, which can learn"
        f" images by heart: take {' or '.join(remedies)}"
    )
