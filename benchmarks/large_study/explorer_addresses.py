"""Which pages of the explorer are timed: one of every kind, and lists by every filter that costs something."""

from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from hsae.catalog import transaction

_NODE = "animal.n.01"
_IMAGE = 777
_LAST = """
    SELECT i.analysis_id, i.dataset_id, d.n_images FROM analysis_input i JOIN study_job s ON s.job_id = i.job_id
    JOIN dataset d ON d.id = i.dataset_id WHERE s.study_id = :study ORDER BY i.layer DESC, i.analysis_id DESC LIMIT 1
"""
_LATENT = """
    SELECT latent FROM latent WHERE analysis_id = :last AND basis = 'sae' AND NOT is_dead AND label_f1 IS NOT NULL
    ORDER BY latent LIMIT 1
"""
_COLUMN = """
    SELECT basis, latent FROM latent WHERE analysis_id = :last AND basis <> 'sae' AND NOT is_dead
    ORDER BY basis <> 'pca', basis, latent LIMIT 1
"""
_OF_STUDY = """
    JOIN analysis_input i ON i.analysis_id = s.analysis_id
    JOIN study_job j ON j.job_id = i.job_id AND j.study_id = :study
"""
_MAP = f"""
    SELECT s.analysis_id, v.latent, v.image FROM latent_map v JOIN map_set s ON s.id = v.map_set_id{_OF_STUDY}
    WHERE v.map_index IS NOT NULL AND v.method IN ('chefer', 'gradcam') ORDER BY s.id DESC, v.latent, v.rank LIMIT 1
"""  # noqa: S608 -- ours
_NAME = f"""
    SELECT v.word FROM latent_name v JOIN name_set s ON s.id = v.name_set_id{_OF_STUDY}
    GROUP BY v.word ORDER BY count(*) DESC, v.word LIMIT 1
"""  # noqa: S608 -- ours


def pages(sessions: sessionmaker[Session], study: int) -> tuple[dict[str, str], list[str]]:
    """What is asked for, by name, and in words what the study lacks for a page.

    Args:
        sessions: of the catalog.
        study: its number; a study with analyses, whose data set has animals.
    """
    with transaction(sessions) as session:

        def first(query: str, **values: Any) -> Any:
            return session.execute(text(query), values).first()

        last, dataset, n_images = first(_LAST, study=study)
        (node,) = first("SELECT id FROM synset WHERE name = :name", name=_NODE)
        (latent,) = first(_LATENT, last=last)
        column, mapped, named = first(_COLUMN, last=last), first(_MAP, study=study), first(_NAME, study=study)
    here, everywhere = f"study={study}", f"/latents?study={study}&layer=all"
    numbers = "min_f1_adjusted=0.1&min_coherence=0.5&max_q=0.5&max_density=0.05&min_stability=0.1"
    asked = {
        "studies": "/",
        "study": f"/study/{study}",
        "tree": f"/tree?{here}",
        "tree, everything of six levels": f"/tree?{here}&depth=6",
        "tree as a picture": f"/tree?{here}&view=picture",
        "search": f"/tree?{here}&q=dog",
        "node": f"/node/{node}?{here}",
        "latents": f"/latents?{here}",
        "latents under a node": f"/latents?{here}&under={_NODE}",
        "latents by words": f"/latents?{here}&q=dog",
        "latents by five numbers": f"/latents?{here}&{numbers}",
        "latents of a baseline": f"/latents?{here}&basis=exemplar",
        "latents of all layers": everywhere,
        "latents of all layers, a later page": f"{everywhere}&after=0.3_{last}_7",
        "latents of all layers by coherence": f"{everywhere}&sort=coherence",
        "latents of all layers by stability": f"{everywhere}&sort=stability",
        "latents of all layers under a node": f"{everywhere}&under={_NODE}",
        "latents of all layers used for their label": f"{everywhere}&used=true",
        "latent": f"/latent/{last}/sae/{latent}",
        "column of a baseline": f"/latent/{last}/{column.basis}/{column.latent}",
        "image": f"/image/{dataset}/{min(_IMAGE, n_images - 1)}?{here}",
        "pairs": f"/pairs?{here}",
        "pairs of all layers": f"/pairs?{here}&layer=all",
        "pairs under a node": f"/pairs?{here}&layer=all&under={_NODE}",
        "pairs of a shuffled tree": f"/pairs?{here}&basis=shuffled_taxonomy",
        "encode, its form": f"/encode?{here}",
        "edit, its form": f"/edit?{here}&latents={latent}",
        "thumbnail": f"/thumbnail/{dataset}/{min(_IMAGE, n_images - 1)}?side=128",
        "healthz": "/healthz",
    }
    lacking = []
    if named is None:
        lacking.append("latents by their names by text, which this study has not")
    else:
        asked["latents of all layers by name"] = f"{everywhere}&named={named.word.split()[0]}"
    if mapped is None:
        lacking.append("relevancy maps, which this study has not")
    else:
        asked["latent with maps"] = f"/latent/{mapped.analysis_id}/sae/{mapped.latent}"
        asked["relevancy map"] = f"/map/{mapped.analysis_id}/{mapped.latent}/{mapped.image}?side=256"
    return asked, lacking
