"""The text tower of a CLIP-like model: texts become vectors in the space of its image embeddings."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from jaxtyping import Float32
from safetensors import SafetensorError
from torch import Tensor, nn

from hsae.backbones.loading.transformers_models import only_errors_logged
from hsae.backbones.sources import with_weights
from hsae.errors import UserError
from hsae.text.models import TextModel

_TEXTS_PER_BATCH = 256
# SigLIP was trained on texts of this many tokens, the end filled up, and reads others less well.
_FULL_LENGTH = ("siglip", "siglip2")


class TextTower:
    """Embeds texts; the same texts in the same order have the same bits on one type of machine."""

    def __init__(self, model: nn.Module, tokenizer: Any, text_model: TextModel, device: torch.device) -> None:
        """Used by `load`."""
        loaded: Any = model
        self._model = loaded
        self._tokenizer = tokenizer
        self._pads_fully = text_model.model_type in _FULL_LENGTH
        self._n_tokens = int(loaded.config.text_config.max_position_embeddings)
        self._device = device
        self.name = text_model.name

    @classmethod
    def load(cls, text_model: TextModel, device: torch.device, cache_dir: Path | None = None) -> "TextTower":
        """Load the tower and its tokenizer, float32, without the vision tower.

        Raises:
            ServiceError: the hub cannot be reached, and its cache lacks the weights.
            UserError: weights or tokenizer are missing or damaged.
        """
        folder = with_weights(text_model.name, text_model.revision, cache_dir=cache_dir)
        with only_errors_logged():
            try:
                model, report = transformers.AutoModel.from_pretrained(
                    folder,
                    dtype=torch.float32,
                    attn_implementation="sdpa",
                    use_safetensors=True,
                    trust_remote_code=False,
                    local_files_only=True,
                    output_loading_info=True,
                )
            except (OSError, RuntimeError, SafetensorError, ValueError) as error:
                reason = " ".join(str(error).split())[:200]
                raise UserError(
                    f"the text tower of {text_model.name} cannot be loaded ({reason}): fetch the model again"
                ) from error
        missing = sorted(name for name in report["missing_keys"] if not name.startswith("vision_model."))
        if missing or not hasattr(model, "get_text_features"):  # transformers would go on with random values
            raise UserError(
                f"the files of {text_model.name} have no text tower ({', '.join(missing[:3])}): choose a CLIP or"
                " SigLIP model with both towers"
            )
        model.vision_model = nn.Identity()  # its memory is needed elsewhere
        return cls(model.eval().requires_grad_(False).to(device), load_tokenizer(text_model), text_model, device)

    @property
    def logit_scale(self) -> float:
        """The factor by which the model multiplies cosines of images and texts."""
        return float(self._model.logit_scale.exp())

    def knows(self, word: str) -> bool:
        """Whether the tokenizer knows a part of the word; one that writes unknown words in letters knows all."""
        return knows(self._tokenizer, word)

    def embed(self, texts: Sequence[str]) -> Float32[Tensor, "n d_embedding"]:
        """The texts' embeddings, of length 1, on the CPU; what is longer than the tower reads is cut off."""
        found = []
        with torch.no_grad():
            for start in range(0, len(texts), _TEXTS_PER_BATCH):
                given = self._tokenizer(
                    list(texts[start : start + _TEXTS_PER_BATCH]),
                    padding="max_length" if self._pads_fully else True,
                    truncation=True,
                    max_length=self._n_tokens,
                    return_tensors="pt",
                )
                arguments = {
                    name: given[name].to(self._device) for name in ("input_ids", "attention_mask") if name in given
                }
                if self._pads_fully:
                    arguments.pop("attention_mask", None)
                output = self._model.get_text_features(**arguments)
                found.append(nn.functional.normalize(getattr(output, "pooler_output", output).float(), dim=1).cpu())
        return torch.cat(found)

    def ensembled(self, groups: Sequence[Sequence[str]]) -> Float32[Tensor, "n_groups d_embedding"]:
        """The mean of the embeddings of each group of texts, at length 1 again (Radford et al. 2021)."""
        every = self.embed([text for group in groups for text in group]).double()
        parts = torch.split(every, [len(group) for group in groups])
        return nn.functional.normalize(torch.stack([part.mean(0) for part in parts]), dim=1).float()


def load_tokenizer(text_model: TextModel) -> Any:
    """The tokenizer of a model.

    Raises:
        UserError: its files are damaged.
    """
    try:
        return transformers.AutoTokenizer.from_pretrained(
            text_model.folder, trust_remote_code=False, local_files_only=True
        )
    except Exception as error:  # the library raises whatever its parsers raise
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"the tokenizer of {text_model.name} cannot be read ({reason}): fetch it again") from error


def knows(tokenizer: Any, word: str) -> bool:
    """Whether a tokenizer has a token of its own for a part of the word."""
    tokens = tokenizer(word, add_special_tokens=False)["input_ids"]
    return any(token != tokenizer.unk_token_id for token in tokens)
