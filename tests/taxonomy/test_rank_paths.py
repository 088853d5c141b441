"""Rank paths, from a CSV of ranks and from class folders that carry them: one node per path, whatever its name."""

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.examples import examples

from hsae.errors import UserError
from hsae.taxonomy import induce, load_taxonomy
from hsae.taxonomy.rank_paths import RankPaths

CSV = """kingdom,phylum,class,genus,species
Animalia,Chordata,Aves,Corvus,corax
Animalia,Chordata,Aves,Corvus,corone
Animalia,Chordata,Mammalia,Oenanthe,vulgaris
Animalia,,Clitellata,Lumbricus,terrestris
Plantae,Tracheophyta,,Oenanthe,crocata
Plantae,Tracheophyta,,Oenanthe,vulgaris
Plantae,Tracheophyta,,,
"""
FOLDERS = [
    "00000_Animalia_Annelida_Clitellata_Haplotaxida_Lumbricidae_Lumbricus_terrestris",
    "00001_Animalia_Annelida_Polychaeta_Sabellida_Sabellidae_Sabella_spallanzanii",
    "06033_Plantae_Tracheophyta_Magnoliopsida_Asterales_Asteraceae_Symphyotrichum_novae-angliae",
]


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def class_folders(folder, names):
    for name in names:
        (folder / name).mkdir(parents=True)
    return folder


@pytest.mark.parametrize(
    "content",
    [
        CSV,
        CSV.replace("\n", "\r\n"),
        b"\xef\xbb\xbf" + CSV.encode(),
        CSV + ",,,,\nAnimalia,Chordata,Aves,Corvus,corax\n",
        CSV.replace("kingdom,phylum,class,genus,species", "level 1, level 2, level 3, level 4, level 5"),
        CSV.replace(",", " , "),
    ],
    ids=["plain", "crlf", "bom", "blank-and-repeated-rows", "other-header", "spaces"],
)
def test_read_a_csv(tmp_path, content):
    taxonomy = load_taxonomy(write(tmp_path / "life.csv", content))
    assert taxonomy.name == "life"
    assert taxonomy.hypernyms("root") == ()
    assert taxonomy.hyponyms("root") == ("Animalia", "Plantae")
    assert taxonomy.hypernyms("Animalia/Clitellata") == ("Animalia",), "a missing rank is skipped"
    assert taxonomy.hyponyms("Animalia/Chordata/Aves/Corvus") == (
        "Animalia/Chordata/Aves/Corvus/corax",
        "Animalia/Chordata/Aves/Corvus/corone",
    )
    raven = taxonomy.resolve("corax")
    assert (raven.id, raven.lemmas) == ("Animalia/Chordata/Aves/Corvus/corax", ("corax",))
    assert raven.name == raven.id


def test_one_name_at_two_places_is_two_nodes(tmp_path):
    taxonomy = load_taxonomy(write(tmp_path / "life.csv", CSV))
    bird, plant = "Animalia/Chordata/Mammalia/Oenanthe", "Plantae/Tracheophyta/Oenanthe"
    assert taxonomy.hyponyms(bird) == (f"{bird}/vulgaris",)
    assert taxonomy.hyponyms(plant) == (f"{plant}/crocata", f"{plant}/vulgaris")
    induced = induce(taxonomy, [f"{bird}/vulgaris", f"{plant}/vulgaris"])
    assert induced.synsets[induced.lch([0, 1])].id == "root"
    with pytest.raises(UserError, match=f"does not say which .*candidates: {bird}/vulgaris, {plant}/vulgaris"):
        taxonomy.resolve("vulgaris")
    with pytest.raises(UserError, match="does not say which"):
        taxonomy.resolve("Oenanthe vulgaris")
    for label in ("Mammalia/Oenanthe/vulgaris", "Mammalia_Oenanthe_vulgaris", "7_Mammalia Oenanthe vulgaris"):
        assert taxonomy.resolve(label).id == f"{bird}/vulgaris"


def test_labels(tmp_path):
    taxonomy = load_taxonomy(write(tmp_path / "life.csv", CSV))
    for label in ("Corvus corax", "Corvus_corax", " corax ", "12_corax", "Animalia/Chordata/Aves/Corvus/corax"):
        assert taxonomy.resolve(label).lemmas == ("corax",)
    assert taxonomy.resolve("Aves").id == "Animalia/Chordata/Aves", "a class may be an inner node"
    assert taxonomy.resolve("root").id == "root"
    for label in ("corx", "", "12_", "orax", "corvus", "Aves/corax"):
        with pytest.raises(UserError, match="is no node of the taxonomy life"):
            taxonomy.resolve(label)
    with pytest.raises(UserError, match="did you mean .*Corvus_corax"):
        taxonomy.resolve("Corvus corx")
    for ask in (taxonomy.synset, taxonomy.hypernyms, taxonomy.hyponyms):
        with pytest.raises(UserError, match="no node"):
            ask("corax")


def test_a_row_is_meant_before_the_nodes_above_it(tmp_path):
    """A coarse and a fine class of one name, as "fish" in many lists of categories."""
    taxonomy = load_taxonomy(write(tmp_path / "t.csv", "coarse,fine\nfish,fish\nfish,ray\npet,cat\npet,\n"))
    assert taxonomy.resolve("fish").id == "fish/fish"
    assert taxonomy.resolve("pet").id == "pet"
    assert taxonomy.hypernyms("fish/fish") == ("fish",)


def test_one_top_name_is_the_root(tmp_path):
    taxonomy = load_taxonomy(write(tmp_path / "t.csv", "a,b\nlife,fish\nlife,bird\n"))
    assert taxonomy.hypernyms("life") == ()
    assert induce(taxonomy, ["life/fish", "life/bird"]).height.max() == 1


def test_class_folders_of_inaturalist(tmp_path):
    folder = class_folders(tmp_path / "train_mini", [*FOLDERS, ".cache"])
    (folder / "readme.txt").touch()
    taxonomy = load_taxonomy(folder)
    assert taxonomy.name == "train_mini"
    worm, fanworm, aster = (taxonomy.resolve(name) for name in FOLDERS)
    assert worm.id == "Animalia/Annelida/Clitellata/Haplotaxida/Lumbricidae/Lumbricus/terrestris"
    assert aster.lemmas == ("novae-angliae",)
    assert taxonomy.hyponyms("Animalia/Annelida") == ("Animalia/Annelida/Clitellata", "Animalia/Annelida/Polychaeta")
    induced = induce(taxonomy, [worm.id, fanworm.id, aster.id])
    names = [synset.id for synset in induced.synsets]
    assert names[induced.lch([0, 1])] == "Animalia/Annelida"  # classes ascend: both worms come before the aster
    assert names[induced.root] == "root"
    assert induced.height[induced.root] == 7
    csv = write(
        tmp_path / "train_mini.csv",
        "kingdom,phylum,class,order,family,genus,species\n"
        + "".join(",".join(name.split("_")[1:]) + "\n" for name in FOLDERS),
    )
    assert load_taxonomy(csv).namespace == taxonomy.namespace, "the same tree either way"
    assert [load_taxonomy(csv).resolve(name) for name in FOLDERS] == [worm, fanworm, aster]


names = st.text(st.sampled_from("ab"), min_size=1, max_size=1)
rank_rows = st.lists(
    st.lists(names | st.just(""), min_size=4, max_size=4).filter(any).map(tuple), min_size=2, max_size=12
)


@examples(150)
@given(rows=rank_rows)
def test_nodes_are_the_prefixes_of_the_paths(rows):
    """Two names at four ranks meet at many places; the reference is a set of tuples."""
    paths = {tuple(filter(None, row)) for row in rows}
    prefixes = {path[:length] for path in paths for length in range(1, len(path) + 1)}
    ranks = {}
    for row in rows:
        filled = [rank for rank in range(4) if row[rank]]
        for length, rank in enumerate(filled, start=1):
            ranks.setdefault(tuple(row[r] for r in filled[:length]), set()).add(rank)
    located = [(f"row {number}", row) for number, row in enumerate(rows)]
    if any(len(places) > 1 for places in ranks.values()):
        with pytest.raises(UserError, match="in one column"):
            RankPaths("t", located)
        return
    if len(prefixes) < 2:
        with pytest.raises(UserError, match="no other node"):
            RankPaths("t", located)
        return
    taxonomy = RankPaths("t", located)
    several = len({path[0] for path in paths}) > 1
    graph = nx.DiGraph([("/".join(p), "/".join(p[:-1]) or "root") for p in prefixes if len(p) > 1 or several])
    assert nx.is_arborescence(graph.reverse())
    for node in graph:
        assert taxonomy.hypernyms(node) == tuple(graph.successors(node))
        assert taxonomy.hyponyms(node) == tuple(sorted(graph.predecessors(node)))
    for path in prefixes:
        ends_so = {p for p in prefixes if p[-len(path) :] == path}
        meant = (ends_so & paths) or ends_so
        meant = (meant & {path}) or meant
        if len(meant) == 1:
            assert taxonomy.resolve(" ".join(path)).id == "/".join(*meant)
        else:
            with pytest.raises(UserError, match="does not say which"):
                taxonomy.resolve(" ".join(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("kingdom\nAnimalia\n", "names one column .*needs child,parent, or ranks from coarse to fine"),
        ("kingdom;species\na;b\n", r"names one column \(found: kingdom;species\)"),
        ("kingdom,,species\na,b,c\n", "leaves a column without a name"),
        ("rank,rank\na,b\n", "names a column twice"),
        ("path,label\na.png,dog\n", "that of a data set's labels"),
        ("Synset,Folder\na,b\n", "that of a data set's labels"),
        ("a,b\nb,c\n", "line 2: 'b' is the name of a column as well; the first line must be a header"),
        ("coarse,fine\na/b,c\n", "line 2: 'a/b' holds a /"),
        ("coarse,fine,finer\na,b,c\na,,b\n", "line 3: a/b is of rank 3 here and of rank 2"),
        ("coarse,fine\nroot,a\nb,c\n", "'root' is kept for"),
        ("coarse,fine\na,\n", "holds a and no other node"),
        ("coarse,fine\n", "no rows"),
        ("coarse,fine\na,b,c\n", "line 2: 3 fields, and the header has 2"),
        ("", "is empty"),
        ("coarse,fine\nä,b\n".encode("latin-1"), "is not UTF-8"),
    ],
)
def test_wrong_files(tmp_path, content, message):
    with pytest.raises(UserError, match=message) as caught:
        load_taxonomy(write(tmp_path / "t.csv", content))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["dog", "00000_dog", "00000_", "Animalia_Chordata_Aves", "00000__dog_"])
def test_class_folders_without_a_path(tmp_path, name):
    with pytest.raises(UserError, match=f"class folder '{name}' .*carries no path of ranks such as 00000_Animalia"):
        load_taxonomy(class_folders(tmp_path / "images", [FOLDERS[0], name]))


def test_a_folder_without_class_folders(tmp_path):
    (tmp_path / "1.png").touch()
    with pytest.raises(UserError, match="holds no class folders named like 00000_Animalia"):
        load_taxonomy(tmp_path)
