"""How many images a study's extraction could not use."""

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.orm import Session

# Extractions of one study go over the same images and skip the same ones.
_SKIPPED = """
SELECT d.name AS dataset, (j.result ->> 'n_skipped')::integer AS n_skipped,
       (j.result ->> 'n_skipped')::integer + (j.result ->> 'n_images')::integer AS n_images
FROM study_job s JOIN job j ON j.id = s.job_id JOIN dataset d ON d.id = (j.request -> 'dataset' ->> 'id')::bigint
WHERE s.study_id = :study AND j.kind = 'extract' AND j.state = 'succeeded'
ORDER BY n_skipped DESC, j.id LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class SkippedImages:
    """How many (`n_skipped`) of the `n_images` of a data set were skipped."""

    dataset: str
    n_skipped: int
    n_images: int


def skipped_images(session: Session, study_id: int) -> SkippedImages | None:
    """What the study's extraction skipped; None before an extraction has succeeded."""
    row = session.execute(text(_SKIPPED), {"study": study_id}).mappings().one_or_none()
    return None if row is None else SkippedImages(**row)
