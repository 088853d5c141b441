"""An analysis as the models of an uploaded image need it."""

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from sqlalchemy import text
from sqlalchemy.orm import Session

from hsae.backbones.hooks.names import RESIDUAL
from hsae.backbones.spec import BackboneSpec, Tokens
from hsae.errors import UserError
from hsae.extraction.config import Decode


class ModelAbsentError(UserError):
    """The backbone's files are not on this machine."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """An analysis as an encoder needs it; `dtype` is the one in which its extraction keeps activations.

    `hook` is the hook point whose activations they are, and `decode` says how large JPEGs are decoded.
    """

    spec: BackboneSpec
    layer: int
    tokens: Tokens
    dtype: str
    sae_key: str
    sae_config: dict[str, Any]
    weights_sha256: str
    threshold: float
    hook: str = RESIDUAL
    decode: Decode = "exact"


def wanted_of(session: Session, analysis: int) -> Wanted:
    """What encodes images like those of an analysis.

    Raises:
        UserError: the analysis is of a version that did not keep the backbone's description.
    """
    query = """
        SELECT j.request -> 'model' AS spec, i.layer, i.tokens, i.dtype, i.sae_key, i.sae_config,
               e.weights_sha256, i.scoring, s.hook,
               coalesce(j.request -> 'extraction' ->> 'decode', 'exact') AS decode
        FROM analysis_input i
        JOIN sae e ON e.id = i.sae_id
        JOIN activation_set s ON s.id = i.activation_set_id
        JOIN job j ON j.id = s.job_id
        WHERE i.analysis_id = :id
    """
    row = session.execute(text(query), {"id": analysis}).one()
    try:
        spec = BackboneSpec.model_validate(row.spec)
    except ValidationError as error:
        raise UserError("This analysis does not say which backbone it is of: submit it again.") from error
    threshold = float((row.scoring or {}).get("threshold", 0.0))
    return Wanted(
        spec, row.layer, row.tokens, row.dtype, row.sae_key, row.sae_config, row.weights_sha256, threshold,
        row.hook, row.decode,
    )  # fmt: skip
