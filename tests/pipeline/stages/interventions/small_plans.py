"""Plans of interventions on the bundled backbone, and their rows."""

from sqlalchemy import text
from tests.small import bare_scoring, small_request

from hsae.catalog import transaction
from hsae.pipeline.planning.submit import submit
from hsae.sae.config import SaeConfig
from hsae.split_config import SplitConfig

QUICK = SaeConfig(kind="topk", k=8, expansion=2, n_steps=60)


def plan_interventions(service, settings, *, layers=(3,), sae=QUICK, tokens="cls", n_views=1, **changes):
    hook = changes.pop("hook", "residual")
    given = {"scoring": bare_scoring(), "own": {"intervene": settings}, "split": SplitConfig(), **changes}
    request = small_request(layers=layers, saes=(sae,), **given)
    extraction = request.extraction.model_copy(update={"tokens": tokens, "n_views": n_views, "hook": hook})
    return submit(request.model_copy(update={"extraction": extraction}), service.settings, service.sessions)


def query(service, statement, **values):
    with transaction(service.sessions) as session:
        return [dict(row) for row in session.execute(text(statement), values).mappings()]


EDITS = """
    SELECT i.*, y.name AS node, a.layer FROM intervention i JOIN intervention_set s ON s.id = i.intervention_set_id
    JOIN analysis_input a ON a.analysis_id = s.analysis_id JOIN synset y ON y.id = i.synset_id
    ORDER BY s.id, i.number, i.readout
"""
