"""Registering data sets: WordNet and custom trees in the catalog, side by side."""

import json

import pytest
from click.testing import CliRunner
from sqlalchemy import text
from tests.pipeline.in_process import TINY_SAE, run_jobs
from tests.pipeline.inputs.small_tree import TREE
from tests.small import bare_scoring, link_classes, register, small_request

from hsae.catalog import transaction
from hsae.cli.main import cli
from hsae.demo import images_folder
from hsae.errors import UserError
from hsae.pipeline.inputs.dataset_ref import dataset_ref
from hsae.pipeline.inputs.stored import read_listing, read_taxonomy
from hsae.pipeline.planning.submit import submit


def folder_of(folder, *names):
    """Bundled images under class names of one's own."""
    folder.mkdir()
    for name, source in zip(names, sorted(images_folder().iterdir()), strict=False):
        (folder / name).symlink_to(source, target_is_directory=True)
    return folder


def closure_of(service, taxonomy):
    """(below, above, distance) of the catalog's closure, of one taxonomy."""
    statement = """SELECT d.wnid, a.wnid, c.distance FROM hypernym_closure c JOIN synset d ON d.id = c.descendant_id
                   JOIN synset a ON a.id = c.ancestor_id WHERE d.taxonomy = :taxonomy AND a.taxonomy = :taxonomy"""
    with transaction(service.sessions) as session:
        return {tuple(row) for row in session.execute(text(statement), {"taxonomy": taxonomy})}


def expected_closure(service, dataset):
    induced = read_taxonomy(service.store, dataset_ref(dataset))
    ids = [synset.id for synset in induced.synsets]
    return {(ids[below], ids[above], distance) for below, above, distance in induced.node_closure().tolist()}


def scalars(service, statement, **values):
    with transaction(service.sessions) as session:
        return session.execute(text(statement), values).scalars().all()


def test_a_custom_tree_works_end_to_end(service, tmp_path, monkeypatch):
    (tmp_path / "mine.csv").write_text(TREE)
    folder = folder_of(tmp_path / "images", "microbe", "shark", "bird", "frog")
    for name, value in service.environment.items():
        monkeypatch.setenv(name, value)
    added = CliRunner().invoke(cli, ["dataset", "add", "mine", str(folder), "--taxonomy", str(tmp_path / "mine.csv")])
    assert added.exit_code == 0, added.output
    assert "4 classes, 7 taxonomy nodes" in added.output
    plan = submit(
        small_request("mine", layers=(3,), saes=(TINY_SAE,), scoring=bare_scoring()), service.settings, service.sessions
    )
    assert run_jobs(service, plan) == ["succeeded"] * len(plan.jobs)
    nodes = {"microbe", "shark", "bird", "frog", "fish", "animal", "living thing"}
    assert set(scalars(service, "SELECT synset FROM node_best_latent WHERE basis = 'sae'")) == nodes
    labels = set(scalars(service, "SELECT synset FROM latent_label WHERE basis = 'sae' AND synset IS NOT NULL"))
    assert labels
    assert labels <= nodes
    assert set(scalars(service, "SELECT name FROM synset")) == nodes
    heights = """SELECT n.height FROM dataset_node n JOIN synset y ON y.id = n.synset_id
                 WHERE y.name IN ('living thing', 'animal', 'fish', 'shark') ORDER BY n.depth"""
    assert scalars(service, heights) == [3, 2, 1, 0]


# One genus name in two kingdoms, and a rank that one row lacks.
RANKS = """kingdom,phylum,class,genus,species
Animalia,Chordata,Aves,Oenanthe,oenanthe
Animalia,Chordata,Aves,Corvus,corax
Animalia,Annelida,,Lumbricus,terrestris
Plantae,Tracheophyta,Magnoliopsida,Oenanthe,crocata
"""
RANK_FOLDERS = (
    "00000_Animalia_Chordata_Aves_Oenanthe_oenanthe",
    "00001_Animalia_Chordata_Aves_Corvus_corax",
    "00002_Animalia_Annelida__Lumbricus_terrestris",
    "00003_Plantae_Tracheophyta_Magnoliopsida_Oenanthe_crocata",
)


@pytest.mark.parametrize(
    ("names", "tree"),
    [
        (("oenanthe", "Corvus corax", "terrestris", "Oenanthe_crocata"), "ranks.csv"),
        (RANK_FOLDERS, "images"),
    ],
    ids=["csv", "folders"],
)
def test_rank_paths_work_end_to_end(service, tmp_path, monkeypatch, names, tree):
    (tmp_path / "ranks.csv").write_text(RANKS)
    folder = folder_of(tmp_path / "images", *names)
    for name, value in service.environment.items():
        monkeypatch.setenv(name, value)

    def run(*arguments):
        done = CliRunner().invoke(cli, arguments)
        assert done.exit_code == 0, done.output
        return done.stdout

    added = run("dataset", "add", "life", str(folder), "--taxonomy", str(tmp_path / tree))
    assert "4 classes, 16 taxonomy nodes" in added
    plan = submit(
        small_request("life", layers=(3,), saes=(TINY_SAE,), scoring=bare_scoring()), service.settings, service.sessions
    )
    assert run_jobs(service, plan) == ["succeeded"] * len(plan.jobs)

    rows = [row.split(",") for row in RANKS.splitlines()[1:]]
    leaves = ["/".join(filter(None, row)) for row in rows]
    above = {leaf.rsplit("/", up)[0] for leaf in leaves for up in range(1, leaf.count("/") + 1)}
    nodes = {"root", *leaves, *above}
    assert {"Animalia/Chordata/Aves/Oenanthe", "Plantae/Tracheophyta/Magnoliopsida/Oenanthe"} <= nodes
    assert set(scalars(service, "SELECT synset FROM node_best_latent WHERE basis = 'sae'")) == nodes
    assert set(scalars(service, "SELECT synset FROM latent_label WHERE basis = 'sae' AND synset IS NOT NULL")) <= nodes
    labels = """SELECT y.name, c.label FROM dataset_class c JOIN synset y ON y.id = c.synset_id"""
    with transaction(service.sessions) as session:
        assert dict(session.execute(text(labels)).all()) == dict(zip(leaves, names, strict=True))
    heights = """SELECT n.height FROM dataset_node n JOIN synset y ON y.id = n.synset_id
                 WHERE y.name IN ('root', 'Animalia', 'Animalia/Annelida', :worm) ORDER BY n.depth"""
    assert scalars(service, heights, worm=leaves[2]) == [5, 4, 2, 0]

    def shown(*arguments):
        return json.loads(run("results", *arguments, "--json"))

    under = {row["synset"] for row in shown("nodes", "--under", "Animalia/Chordata")}
    assert under == {node for node in nodes if f"{node}/".startswith("Animalia/Chordata/")}
    labelled = {row["synset"] for row in shown("latents", "--under", "Animalia")}
    assert labelled <= {node for node in nodes if f"{node}/".startswith("Animalia/")}
    assert {row["synset"] for row in shown("tree", "Plantae", "--depth", 1)["nodes"]} == {
        "Plantae",
        "Plantae/Tracheophyta",
    }
    assert {row["synset"] for row in shown("nodes", "--node", leaves[0])} == {leaves[0]}
    path = json.loads(run("taxonomy", "show", names[2], "--taxonomy", str(tmp_path / tree), "--json"))
    assert path["paths"] == [[leaves[2], "Animalia/Annelida/Lumbricus", "Animalia/Annelida", "Animalia", "root"]]


def test_two_trees_of_one_file_name_do_not_mix(service, tmp_path):
    registered = []
    for number, edges in enumerate(
        [
            "cat,pet\ndog,pet\npet,thing\n",
            "cat,hunter\nhunter,pet\ndog,thing\npet,thing\n",
            "cat,pet\ndog,thing\npet,thing\n",
        ]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "tree.csv").write_text("child,parent\n" + edges)
        images = folder_of(folder / "images", "cat", "dog")
        registered.append(register(service, f"set {number}", images, folder / "tree.csv")[0])
    assert len({dataset.taxonomy for dataset in registered}) == 3
    for dataset in registered:
        assert closure_of(service, dataset.taxonomy) == expected_closure(service, dataset)
    crossing = """SELECT 1 FROM hypernym_closure c JOIN synset d ON d.id = c.descendant_id
                  JOIN synset a ON a.id = c.ancestor_id WHERE d.taxonomy <> a.taxonomy"""
    assert scalars(service, crossing) == []


def test_a_tree_named_like_wordnet_does_not_mix_with_it(service, tmp_path):
    wordnet, _ = register(service, "wordnet", link_classes(tmp_path, 2))
    (tmp_path / f"{wordnet.taxonomy}.csv").write_text("child,parent\ncat,thing\ndog,thing\n")
    images = folder_of(tmp_path / "mine", "cat", "dog")
    mine, _ = register(service, "mine", images, tmp_path / f"{wordnet.taxonomy}.csv")
    assert mine.taxonomy != wordnet.taxonomy
    assert closure_of(service, wordnet.taxonomy) == expected_closure(service, wordnet)


def test_the_same_tree_elsewhere_shares_its_nodes(service, tmp_path):
    datasets = []
    for number, rows in enumerate([TREE, "\n".join([TREE.splitlines()[0], *TREE.splitlines()[:0:-1]])]):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "tree.csv").write_text(rows)
        names = ("microbe", "shark") if number == 0 else ("bird", "frog")
        images = folder_of(tmp_path / str(number) / "images", *names)
        datasets.append(register(service, f"set {number}", images, tmp_path / str(number) / "tree.csv")[0])
    assert datasets[0].taxonomy == datasets[1].taxonomy
    assert scalars(service, "SELECT count(*) FROM synset WHERE name = 'living thing'") == [1]
    both = expected_closure(service, datasets[0]) | expected_closure(service, datasets[1])
    assert closure_of(service, datasets[0].taxonomy) == both


def test_data_sets_of_wordnet_share_nodes_and_keep_their_own_places(service, tmp_path):
    small, _ = register(service, "small", link_classes(tmp_path / "a", 2))
    large, _ = register(service, "large", link_classes(tmp_path / "b", 4))
    assert closure_of(service, "wordnet-3.0") == expected_closure(service, small) | expected_closure(service, large)
    for dataset in (small, large):
        induced = read_taxonomy(service.store, dataset_ref(dataset))
        listing = read_listing(service.store, dataset_ref(dataset))
        of_class = listing["class_id"].to_pylist()
        with transaction(service.sessions) as session:
            statement = """SELECT y.wnid, n.height, n.depth, n.n_classes, n.n_images, n.is_class FROM dataset_node n
                           JOIN synset y ON y.id = n.synset_id WHERE n.dataset_id = :id ORDER BY 1"""
            found = [tuple(row) for row in session.execute(text(statement), {"id": dataset.id})]
        below = {}
        for descendant, ancestor, _ in expected_closure(service, dataset):
            below.setdefault(ancestor, set()).add(descendant)
        classes = set(of_class)
        assert found == [
            (
                synset.id,
                int(induced.height[node]),
                int(induced.depth[node]),
                len(below[synset.id] & classes),
                sum(label in below[synset.id] for label in of_class),
                synset.id in classes,
            )
            for node, synset in enumerate(induced.synsets)
        ]
        assert (dataset.n_images, dataset.n_classes, dataset.n_nodes) == (len(of_class), len(classes), len(found))
    counts = "SELECT n_images FROM dataset_class WHERE dataset_id = :id ORDER BY position"
    assert sum(scalars(service, counts, id=large.id)) == large.n_images


def test_registering_again_changes_nothing_but_the_folder(service, tmp_path):
    first, new = register(service, "mine", link_classes(tmp_path / "a", 2))
    assert new
    again, new = register(service, "mine", link_classes(tmp_path / "b", 2))
    assert not new
    assert (again.id, again.fingerprint) == (first.id, first.fingerprint)
    assert scalars(service, "SELECT root FROM dataset") == [str(tmp_path / "b" / "images")]


def test_the_same_images_under_another_tree_need_another_name(service, tmp_path):
    folder = folder_of(tmp_path / "images", "bird", "frog")
    for number, edges in enumerate(["bird,thing\nfrog,thing\n", "bird,animal\nfrog,animal\nanimal,thing\n"]):
        (tmp_path / f"{number}.csv").write_text("child,parent\n" + edges)
    register(service, "mine", folder, tmp_path / "0.csv")
    with pytest.raises(UserError, match="the name mine is taken"):
        register(service, "mine", folder, tmp_path / "1.csv")
    other, new = register(service, "other", folder, tmp_path / "1.csv")
    assert new
    assert other.n_nodes == 4


def test_a_name_that_is_taken_leaves_nothing_in_the_store(service, tmp_path):
    register(service, "mine", link_classes(tmp_path / "a", 2))
    before = sorted(service.store.list(""))
    with pytest.raises(UserError, match="the name mine is taken"):
        register(service, "mine", link_classes(tmp_path / "b", 3))
    assert sorted(service.store.list("")) == before
