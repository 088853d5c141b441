"""How many images a study's extractions could not use."""

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.orm import Session

# Extractions of the same images skip the same ones.
_SKIPPED = """
SELECT DISTINCT ON (d.fingerprint) d.name AS dataset, (j.result ->> 'n_skipped')::integer AS n_skipped,
       (j.result ->> 'n_skipped')::integer + (j.result ->> 'n_images')::integer AS n_images,
       EXISTS (SELECT FROM dataset o WHERE o.name = t.request ->> 'score_dataset' AND o.fingerprint = d.fingerprint)
       AS is_scored_apart
FROM study_job s JOIN study t ON t.id = s.study_id JOIN job j ON j.id = s.job_id
JOIN dataset d ON d.id = (j.request -> 'dataset' ->> 'id')::bigint
WHERE s.study_id = :study AND j.kind = 'extract' AND j.state = 'succeeded'
ORDER BY d.fingerprint, n_skipped DESC, j.id
"""


@dataclass(frozen=True, slots=True)
class SkippedImages:
    """How many (`n_skipped`) of the `n_images` of a data set were skipped."""

    dataset: str
    n_skipped: int
    n_images: int


@dataclass(frozen=True, slots=True)
class StudySkipped:
    """What a study's extractions skipped of its data set, and of another one that is scored; None before they ended."""

    trains: SkippedImages | None = None
    scores: SkippedImages | None = None


def skipped_images(session: Session, study_id: int) -> StudySkipped:
    """What the study's extractions skipped."""
    rows = session.execute(text(_SKIPPED), {"study": study_id}).all()
    of = {row.is_scored_apart: SkippedImages(row.dataset, row.n_skipped, row.n_images) for row in rows}
    return StudySkipped(of.get(False), of.get(True))
