"""Names by text, effects at labels and relevancy maps for a synthetic study, as many as large studies have.

Like its scores they mean nothing: the rows have the numbers and the shape of real ones.
"""

import numpy as np
import torch
from sqlalchemy import text
from sqlalchemy.orm import Session

from hsae.store.keys import maps_key
from hsae.store.objects import ObjectStore
from hsae.store.tensors import put_tensors

N_EFFECTS = 256
N_MAPPED = 32
_GRID = (16, 16)
_NAME_SETS = """
    INSERT INTO name_set (key, analysis_id, job_id, config, text_model, text_revision, method, split, n_words,
                          n_unknown, n_latents, n_labelled, directions_sha256)
    SELECT 'names-' || a.id, a.id, a.job_id, '{}', 'synthetic/clip', '0', 'direction', 'score', 20000, 0, 0, 0, '0'
    FROM analysis a
"""
# A latent is called like the label of another one.
_NAMES = """
    INSERT INTO latent_name (name_set_id, latent, word, synset_id, score, runner_up, margin, agreement_height)
    SELECT s.id, l.latent, replace(split_part(y.name, '.', 1), '_', ' '), y.id, 0.1, 'thing', 0.02, l.latent % 9
    FROM name_set s
    JOIN latent l ON l.analysis_id = s.analysis_id AND l.basis = 'sae' AND NOT l.is_dead
    JOIN latent o ON o.analysis_id = s.analysis_id AND o.basis = 'sae' AND NOT o.is_dead AND o.latent = (l.latent # 1)
    JOIN synset y ON y.id = o.label_synset_id
"""
_AGREEMENTS = """
    INSERT INTO name_agreement (name_set_id, height, n_latents, n_agree, n_agree_shuffled, shuffled_low, shuffled_high,
                                p)
    SELECT s.id, h, 100, 10 + h, h, 0, 2 * h, 0.1 FROM name_set s, generate_series(0, 8) h
"""
_EFFECT_SETS = """
    INSERT INTO intervention_set (key, analysis_id, job_id, config, n_images, n_train, start)
    SELECT 'effects-' || a.id, a.id, a.job_id, '{}', a.n_images, a.n_images, 'stored' FROM analysis a
"""
_EFFECTS = """
    INSERT INTO latent_effect (intervention_set_id, latent, readout, synset_id, n_images, unit, effect, effect_low,
                               effect_high, accuracy_effect, p, q, chance, chance_low, chance_high, n_draws, is_used)
    SELECT s.id, l.latent, 'probe', l.label_synset_id, 50, 'log_odds', 0.01 * l.latent, 0, 1, 0.1, 0.01, 0.02, 0.0,
           -0.5, 0.5, 5, l.latent % 3 = 0
    FROM intervention_set s
    JOIN latent l ON l.analysis_id = s.analysis_id AND l.basis = 'sae' AND NOT l.is_dead AND l.latent < :n
"""
_MAP_SET = """
    INSERT INTO map_set (key, analysis_id, job_id, config, n_latents, n_maps, n_undefined, n_patch_rows, n_patch_cols,
                         maps_sha256)
    SELECT :key, a.id, a.job_id, '{}', :n_latents, :n_maps, 0, :n_rows, :n_cols, :sha256
    FROM analysis a WHERE a.id = :analysis RETURNING id
"""
_MAPS = """
    INSERT INTO latent_map (map_set_id, method, latent, rank, image, path, activation, map_index, peak, peak_row,
                            peak_col, concentration)
    SELECT :map_set, 'chefer', l.latent, t.rank, (t.top->>'image')::integer,
           (t.top->>'image')::integer % :n_files || '.jpg', (t.top->>'activation')::double precision,
           row_number() OVER (ORDER BY l.latent, t.rank) - 1, 1, 0, 0, 0.2
    FROM latent l, jsonb_array_elements(l.top_images) WITH ORDINALITY t(top, rank)
    WHERE l.analysis_id = :analysis AND l.basis = 'sae' AND l.latent = ANY(:latents)
"""
_MAPPED = """
    SELECT latent, jsonb_array_length(top_images) AS n FROM latent
    WHERE analysis_id = :analysis AND basis = 'sae' AND NOT is_dead ORDER BY latent LIMIT :n
"""


def enter_measured(session: Session, store: ObjectStore, analysis: int, n_files: int) -> None:
    """Name all latents of all analyses, give some of each an effect, and some of one analysis maps.

    Args:
        session: of a catalog with a synthetic study.
        store: where the maps go.
        analysis: the analysis with maps.
        n_files: image k of the data set is the file `{k % n_files}.jpg`.
    """
    for query in (_NAME_SETS, _NAMES, _AGREEMENTS, _EFFECT_SETS):
        session.execute(text(query))
    session.execute(text(_EFFECTS), {"n": N_EFFECTS})
    mapped = session.execute(text(_MAPPED), {"analysis": analysis, "n": N_MAPPED}).all()
    n_maps = sum(row.n for row in mapped)
    key = f"maps-{analysis}"
    values = np.random.default_rng(4).random((n_maps, *_GRID)).astype(np.float16)
    stored = put_tensors(store, maps_key(key), {"chefer": torch.from_numpy(values)}, {"analysis": str(analysis)})
    map_set = session.execute(
        text(_MAP_SET),
        {
            "key": key, "analysis": analysis, "n_latents": len(mapped), "n_maps": n_maps, "n_rows": _GRID[0],
            "n_cols": _GRID[1], "sha256": stored.sha256,
        },
    ).scalar_one()  # fmt: skip
    session.execute(
        text(_MAPS),
        {"map_set": map_set, "analysis": analysis, "n_files": n_files, "latents": [row.latent for row in mapped]},
    )
