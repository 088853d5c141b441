"""What an imported SAE's files say of its use, beside what a submit asks for."""

from hsae.pipeline.planning.requests import SubmitRequest


def imported_notes(request: SubmitRequest, model: str) -> list[str]:
    """A sentence for each imported SAE that was trained on another model or on other tokens, as its files say.

    Args:
        request: whose SAEs are meant; another layer or width is refused elsewhere.
        model: id or folder of the model that they are applied to.
    """
    notes = []
    for sae in request.saes:
        origin = sae.imported
        if origin is None:
            continue
        if origin.model is not None and _own_name(origin.model) != _own_name(model):
            notes.append(
                f"the imported SAE {origin.name} was trained on {origin.model}, as its files say, and is applied to"
                f" {model}: its scores mean something only if that is the same model"
            )
        if origin.tokens is not None and origin.tokens != request.extraction.tokens:
            notes.append(
                f"the imported SAE {origin.name} was trained on {origin.tokens} tokens, as its files say, and is"
                f" applied to {request.extraction.tokens}: --tokens {origin.tokens} gives it those"
            )
    return notes


def _own_name(model: str) -> str:
    """The last part of a model's id or folder, without case: owners, folders and prefixes of libraries differ."""
    return model.rstrip("/").rpartition("/")[2].rpartition(":")[2].lower()
