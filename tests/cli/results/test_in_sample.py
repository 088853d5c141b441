"""Every table of results says which of its scores are of images that trained the SAE and chose its latents."""

import pytest
from sqlalchemy import update
from tests.planted_scores import ID, plant, plant_probe

from hsae.catalog import Analysis, LatentEdge, NodeAbsorption, transaction

SPLIT = {"train": 0.5, "select": 0.25, "score": 0.25, "seed": 0, "by": "images", "is_halved": False}


@pytest.fixture(scope="module")
def planted(make_service):
    """Analysis 1 (study 1, layer 2) is in-sample, analysis 2 (study 2, layer 5) held out."""
    service = make_service()
    plant(service)
    with transaction(service.sessions) as session:
        session.execute(
            update(Analysis).where(Analysis.id == 2).values(split=SPLIT, n_train=20, n_select=10, n_score=40)
        )
        dog = 100 + ID["dog.n.01"]
        for number in (1, 2):
            session.add_all(
                [
                    LatentEdge(analysis_id=number, basis="sae", seed=0, source="activation", parent=dog, child=dog,
                               n_parent=9, n_child=8, n_both=8, implication=1.0),
                    NodeAbsorption(analysis_id=number, basis="sae", seed=0, synset_id=ID["animal.n.01"], latent=7,
                                   latent_f1=0.8, n_images=30, n_present=20, n_silent=10, n_absorbed=5,
                                   silent_share=0.5, absorbed_share=0.25, random_absorbed_share=0.1,
                                   direction_f1=0.75, carrier=9, n_carrier=5),
                ]
            )  # fmt: skip
            plant_probe(session, number, [(1, 2, 0.7, 0.5, 0.6)])
    return service


@pytest.mark.parametrize("command", ["nodes", "latents", "tree entity.n.01", "edges", "absorption"])
def test_a_listing_is_titled(admin, planted, command):
    def first_line(study: object) -> str:
        result = admin(planted, "results", *command.split(), "--study", study)
        assert result.exit_code == 0, result.output
        return result.stdout.splitlines()[0]

    assert first_line(1) == "In-sample: latents are chosen and scored on the images that trained the SAE"
    assert "in-sample" not in first_line(2).lower()
    assert "in-sample" not in admin(planted, "results", *command.split(), "--study", 2, "--json").stdout
    if not command.startswith("tree"):  # whose nodes here all have their best latents in one of the two
        assert first_line("all").startswith("Analysis 1: in-sample, latents are chosen")
        assert first_line("all").endswith("; the others: held out")


def test_levels_say_what_their_probes_hold_out(admin, planted):
    shown = admin(planted, "results", "levels", "--study", 1).stdout
    assert shown.splitlines()[0].endswith(", planted, in-sample")
    assert "its probes hold out a quarter of every class" in shown
    assert "in-sample" not in admin(planted, "results", "levels", "--study", 2).stdout.lower()


def test_layers_say_it_in_their_titles_in_json_and_in_the_legend_of_the_papers_protocol(admin, planted):
    def shown(study: object, *options: str) -> str:
        result = admin(planted, "results", "layers", "--study", study, *options)
        assert result.exit_code == 0, result.output
        return result.stdout

    assert "relu SAE x2, cls of planted/vit, planted, in-sample" in shown(1)
    assert "in-sample" not in shown(2)
    assert '"in_sample": true' in shown(1, "--json")
    assert '"in_sample": false' in shown(2, "--json")
    assert "The paper's protocol, in-sample: the images that trained" in shown(1, "--protocol", "paper")
    assert "Its protocol is in-sample: `submit --split none`." in shown(2, "--protocol", "paper")
    assert "Tables titled in-sample follow its protocol" in shown("all", "--protocol", "paper")
