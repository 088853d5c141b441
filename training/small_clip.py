"""The demo's CLIP: its shape, its tokenizer, how it starts from the demo's backbone, and how it is saved."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import torch
from small_dinov2 import IMAGE_SIDE_PX, processing
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
    Dinov2Model,
    PreTrainedTokenizerFast,
)

N_BLOCKS = 3
"""Of the backbone's six: as many as keep the weights at about 3 MB."""
MAX_TOKENS = 24
# The number of the end token must not be 2: transformers reads texts of such old configurations in another way.
PAD, UNKNOWN, BEGIN, END = range(4)
_SPECIAL = ("<pad>", "<unk>", "<begin>", "<end>")
_NAMED = dict(zip(("pad_token", "unk_token", "bos_token", "eos_token"), _SPECIAL, strict=True))


def new_tokenizer(words: Sequence[str]) -> PreTrainedTokenizerFast:
    """Lower-case words and signs, each a token; a word that is not among `words` is unknown."""
    vocabulary = {word: number for number, word in enumerate([*_SPECIAL, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=_SPECIAL[UNKNOWN]))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<begin> $A <end>", special_tokens=[("<begin>", BEGIN), ("<end>", END)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=MAX_TOKENS, **_NAMED)


def new_clip(backbone: Dinov2Model, n_words: int) -> CLIPModel:
    """A CLIPModel whose vision tower has the first blocks of the backbone; the text tower is new.

    The factors of the backbone's blocks go into the matrices before them, and the bias of its patch embedding into the
    position embeddings. CLIP normalises the tokens before its blocks. The blocks do so, too, and a common length of
    the normalised tokens keeps the stream near the backbone's.
    """
    width = backbone.config.hidden_size
    model = CLIPModel(
        CLIPConfig(
            text_config=CLIPTextConfig(
                vocab_size=n_words, hidden_size=64, intermediate_size=256, projection_dim=64, num_hidden_layers=2,
                num_attention_heads=4, max_position_embeddings=MAX_TOKENS, hidden_act="gelu", pad_token_id=PAD,
                bos_token_id=BEGIN, eos_token_id=END,
            ).to_dict(),
            vision_config=CLIPVisionConfig(
                hidden_size=width, intermediate_size=4 * width, projection_dim=64, num_hidden_layers=N_BLOCKS,
                num_attention_heads=backbone.config.num_attention_heads, image_size=IMAGE_SIDE_PX,
                patch_size=backbone.config.patch_size, hidden_act="gelu",
                layer_norm_eps=backbone.config.layer_norm_eps,
            ).to_dict(),
            projection_dim=64,
        )
    )  # fmt: skip
    tower, source = model.vision_model, backbone.embeddings
    with torch.no_grad():
        convolution = source.patch_embeddings.projection
        tower.embeddings.patch_embedding.weight.copy_(convolution.weight)
        tower.embeddings.class_embedding.copy_(source.cls_token[0, 0])
        positions = source.position_embeddings[0].clone()
        positions[1:] += convolution.bias
        tower.embeddings.position_embedding.weight.copy_(positions)
        tower.pre_layrnorm.weight.fill_(float(convolution.weight.flatten(1).norm(dim=1).mean()))
        for block, of_backbone in zip(tower.encoder.layers, backbone.encoder.layer[:N_BLOCKS], strict=True):
            block.load_state_dict(_folded(of_backbone))
        tower.post_layernorm.load_state_dict(backbone.layernorm.state_dict())
    return model


def _folded(block: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The weights of a block of DINOv2 under CLIP's names, without factors."""
    given = block.state_dict()
    names = {
        "norm1": "layer_norm1", "norm2": "layer_norm2", "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2",
        "attention.q_proj": "self_attn.q_proj", "attention.k_proj": "self_attn.k_proj",
        "attention.v_proj": "self_attn.v_proj", "attention.o_proj": "self_attn.out_proj",
    }  # fmt: skip
    found = {}
    for old, new in names.items():
        for part in ("weight", "bias"):
            found[f"{new}.{part}"] = given[f"{old}.{part}"].clone()
    for scale, name in (("layer_scale1", "self_attn.out_proj"), ("layer_scale2", "mlp.fc2")):
        factor = given[f"{scale}.lambda1"]
        found[f"{name}.weight"] *= factor[:, None]
        found[f"{name}.bias"] *= factor
    return found


def new_processor() -> CLIPImageProcessorPil:
    """The image processor, as the backbone's."""
    return CLIPImageProcessorPil(**processing())


def save_clip(model: CLIPModel, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write the model (float16), its image processor and its tokenizer to `out`."""
    copy.deepcopy(model).half().eval().save_pretrained(out)
    # safetensors writes for the owner alone; the package is for everyone
    (out / "model.safetensors").chmod(0o644)
    new_processor().save_pretrained(out)
    tokenizer.save_pretrained(out)
