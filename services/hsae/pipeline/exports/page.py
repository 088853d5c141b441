"""The page beside exported files that describes each of them and how to load them."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow.parquet as pq

from hsae.backbones.names import short_model_name
from hsae.catalog import NodeScore
from hsae.catalog.queries.conditions import Row
from hsae.pipeline.exports.files import SCORES, Exported
from hsae.sae.config import SaeConfig
from hsae.split_config import IN_SAMPLE

_PAGE = """\
# Analysis {id}: {kind} SAE x{expansion} of {model} layer {layer} on {dataset}{in_sample}
{trained}
{note}Written by hsae. Everything is in these files; no running service is needed. Paths of images are relative to the
data set's folder, `{image_root}` (`image_root` in `analysis.json`).

| file | what it holds |
|---|---|
| `activations.npz` | SciPy CSR matrix, float32 [{n_images}, {n_latents}]: activations of latents (columns) on images |
| `images.parquet` | {n_images} rows, those of the matrix in its order |
| `synsets.parquet` | {n_nodes} rows, the nodes of the data set's taxonomy: its classes and all their hypernyms |
| `closure.parquet` | {n_closure} rows, every pair of a node and an ancestor of it; a node is its own ancestor |
| `node_score.parquet` | {n_pairs} rows, every pair of a latent and a node with all scores, by latent, then by node |
| `sae.safetensors` | the weights of the SAE, exactly the stored object (sha256 `{weights_sha256}`) |
| `sae.json` | its configuration (`config`), training metrics (`metrics`), n_latents and d_model |
| `analysis.json` | model, preprocessing, layer, tokens, data set, image root, `scoring`, `split` (null: in-sample), \
`train_dataset` (null: the same) |

Where the tokens are patches, a latent's activation on an image is the greatest over its patches.
A wnid is the WordNet id of a synset, such as n02084071; in a custom taxonomy it is the name of the node.

## images.parquet

{images}

## synsets.parquet

| column | type | content |
|---|---|---|
| `synset` | string | wnid |
| `synset_name` | string | name of the synset, such as dog.n.01 |
| `lemmas` | list of strings | the words of the synset |
| `definition` | string | its gloss; empty in a custom taxonomy |
| `label` | string | what the data set calls the class (folder, or label of the CSV); null for other nodes |
| `is_class` | bool | whether the data set has images with this very label |
| `height` | int32 | edges on the longest way down to a leaf of the data set's taxonomy; leaf = 0 |
| `depth` | int32 | edges on the shortest way from the root; root = 0 |
| `n_classes` | int32 | classes at or under the node |

## closure.parquet

| column | type | content |
|---|---|---|
| `descendant`, `ancestor` | string | wnids of the two nodes |
| `descendant_name`, `ancestor_name` | string | their names |

## node_score.parquet

| column | type | content |
|---|---|---|
| `latent` | int32 | the latent: a column of `activations.npz`, a row of the SAE's weights |
| `synset`, `synset_name` | string | wnid and name of the node |
{scores}

A latent fires where its activation is above `scoring.threshold` of `analysis.json`.

## sae.safetensors

| tensor | shape | content |
|---|---|---|
| `encoder_weight` | [{n_latents}, {d_model}] | rows are latents |
| `encoder_bias` | [{n_latents}] | |
| `decoder_weight` | [{n_latents}, {d_model}] | row j is the unit direction of latent j |
| `pre_bias` | [{d_model}] | subtracted from the scaled input, added to the output |
| `input_scale` | [] | what raw activations are multiplied by first |{own_tensors}

All are float32. The input is the residual stream after block {layer} (counted from 0), before the final norm.

## Loading them

Needs numpy, scipy, pyarrow, torch and safetensors; run it in this folder.

```python
import json
from pathlib import Path

import pyarrow.parquet as pq
import scipy.sparse as sp
import torch
from safetensors.torch import load_file

activations = sp.load_npz("activations.npz")
images = pq.read_table("images.parquet")
synsets = pq.read_table("synsets.parquet")
closure = pq.read_table("closure.parquet")
scores = pq.read_table("node_score.parquet")
analysis = json.loads(Path("analysis.json").read_text())
config = json.loads(Path("sae.json").read_text())["config"]
sae = load_file("sae.safetensors")


def encode(x):
    \"\"\"Latents of raw activations [n, {d_model}].\"\"\"
    pre = (x.float() * sae["input_scale"] - sae["pre_bias"]) @ sae["encoder_weight"].T + sae["encoder_bias"]
{encode}


def decode(latents):
    \"\"\"Raw activations [n, {d_model}] of latents.\"\"\"
    return (latents @ sae["decoder_weight"] + sae["pre_bias"]) / sae["input_scale"]


# The best node of latent 0, and its strongest image.
of_latent = scores.filter(scores["latent"].to_numpy() == 0).sort_by([("f1", "descending")])
print(of_latent["synset_name"][0], of_latent["f1"][0])
strongest_image = int(activations[:, [0]].toarray().argmax())
print(Path(analysis["image_root"]) / images["path"][strongest_image].as_py())
```
"""

_IN_SAMPLE_NOTE = """\
In-sample: the images that trained the SAE also chose its latents and are scored, so the scores flatter it.

"""


def write_page(target: Path, exported: Exported, n_pairs: int) -> None:
    """Write `README.md`: every file, column and shape, and a snippet that loads them."""
    row = exported.row
    labels = (
        {
            "`synsets`": ("list of strings", "wnids of the image's classes"),
            "`synset_names`": ("list of strings", "their names, in the same order"),
        }
        if exported.has_several_labels
        else {
            "`synset`": ("string", "wnid of the image's class"),
            "`synset_name`": ("string", "its name, such as dog.n.01"),
        }
    )
    images = {
        "`image`": ("int", "number of the image in the data set; those that could not be read are left out"),
        "`path`": ("string", "its file, relative to the image root"),
    }
    if exported.parts is not None:
        images["`part`"] = ("string", "what it was used for; scores of the catalog are those of `score` alone")
    images |= labels
    n_nodes = len(exported.taxonomy.synsets)
    variant = SaeConfig.parse(row["sae_config"]).variant
    shape = row["n_latents"], row["d_model"]
    own_tensors = {**variant.own_parameters(*shape), **variant.own_buffers(*shape)}
    page = _PAGE.format(
        id=row["id"],
        kind=row["sae_kind"],
        expansion=row["expansion"],
        model=short_model_name(row["model"]),
        layer=row["layer"],
        dataset=row["dataset"],
        trained=_trained(row),
        in_sample="" if exported.parts is not None else f", {IN_SAMPLE}",
        note="" if exported.parts is not None else _IN_SAMPLE_NOTE,
        image_root=row["image_root"],
        n_images=row["n_images"],
        n_latents=row["n_latents"],
        d_model=row["d_model"],
        n_nodes=n_nodes,
        n_closure=pq.read_metadata(target / "closure.parquet").num_rows,
        n_pairs=n_pairs,
        weights_sha256=row["weights_sha256"],
        own_tensors="".join(f"\n| `{name}` | {list(shape)} | |" for name, shape in own_tensors.items()),
        encode=textwrap.indent(variant.export_code, "    "),
        images=_columns(images),
        scores="\n".join(
            f"| `{name}` | {'int64' if name.startswith('n_') else 'float64'} | {NodeScore.__table__.c[name].comment} |"
            for name in SCORES
        ),
    )
    (target / "README.md").write_text(page, encoding="utf-8")


def _trained(row: Row) -> str:
    """A paragraph about the images that trained the SAE, where they are of another data set; else nothing."""
    if row["train_dataset"] is None:
        return ""
    return (
        f"\nThe SAE was trained on all images of the data set {row['train_dataset']}. All files here are of the\n"
        f"images of {row['dataset']}, on which its latents were chosen and scored.\n"
    )


def write_index(target: Path, rows: Sequence[Row]) -> None:
    """Write `README.md` of a folder of several analyses: which folder is which."""
    lines = [
        "# Exported analyses",
        "",
        "Each folder has the files of one analysis; its README.md describes them.",
        "",
        "| folder | model | layer | data set | SAE |",
        "|---|---|---|---|---|",
        *(
            f"| `{Path(row['folder']).name}` | {short_model_name(row['model'])} | {row['layer']} | {row['dataset']}"
            f" | {row['sae']}{f', {IN_SAMPLE}' if row['split'] is None else ''} |"
            for row in rows
        ),
    ]
    (target / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _columns(columns: Mapping[str, tuple[str, str]]) -> str:
    return "\n".join(
        ["| column | type | content |", "|---|---|---|", *(f"| {n} | {t} | {c} |" for n, (t, c) in columns.items())]
    )
