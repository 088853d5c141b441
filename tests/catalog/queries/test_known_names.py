"""What a filter names and the catalog does not hold is refused in one line."""

import pytest
from tests.planted_scores import plant

from hsae.catalog import transaction
from hsae.catalog.findings.study_intervals import find_comparison
from hsae.catalog.queries.known_names import require_known, study_analyses
from hsae.catalog.queries.score_filter import AnalysisFilter
from hsae.catalog.queries.studies import require_study, show_study
from hsae.errors import UserError


@pytest.fixture(scope="module")
def planted(make_service):
    service = make_service()
    plant(service)
    return service


@pytest.mark.parametrize("ask", [require_study, show_study, study_analyses, find_comparison])
def test_every_question_about_an_unknown_study_has_the_same_answer(planted, ask):
    with transaction(planted.sessions) as session, pytest.raises(UserError) as refused:
        ask(session, 9)
    assert str(refused.value) == "there is no study 9: see `hsae-admin studies list`"


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"analysis_ids": (1, 7)}, "there is no analysis 7, only 1, 2"),
        ({"layer": 3}, "no analysis is of layer 3, only of 2, 5"),
        ({"sae_kind": "topk"}, "no analysis is of a topk SAE, only of relu: `hsae-admin submit` makes others"),
        ({"model": "planted/vti"}, "no analysis is of the model planted/vti; did you mean planted/vit"),
        ({"dataset": "plantet"}, "no analysis is of the data set plantet; did you mean planted"),
    ],
)
def test_what_nothing_analysed_fits_is_refused(planted, wanted, message):
    with transaction(planted.sessions) as session, pytest.raises(UserError, match=message):
        require_known(session, AnalysisFilter(**wanted))


def test_what_is_there_and_what_asks_nothing_passes(planted):
    with transaction(planted.sessions) as session:
        require_known(session, AnalysisFilter())
        require_known(session, AnalysisFilter(analysis_ids=(1, 2), layer=5, model="planted/vit", dataset="planted"))
        require_known(session, AnalysisFilter(sae_kind="relu"))


def test_before_anything_is_analysed_a_filter_says_so(service):
    with transaction(service.sessions) as session:
        require_known(session, AnalysisFilter())
        with pytest.raises(UserError, match="nothing is analysed yet"):
            require_known(session, AnalysisFilter(layer=3))
