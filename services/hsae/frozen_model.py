"""The base of configs and requests: frozen, strict, and canonical as JSON."""

from pydantic import BaseModel, ConfigDict


class FrozenModel(BaseModel):
    """A model that refuses unknown fields, NaN and infinity, and never changes once made."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
