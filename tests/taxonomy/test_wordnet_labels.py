"""What the labels of data sets mean in WordNet: by name, or by a rule that leaves one sense."""

import pytest

from hsae.errors import UserError
from hsae.taxonomy import Rule, load_taxonomy
from hsae.taxonomy.imagenet import imagenet_wnids


@pytest.mark.parametrize(
    ("label", "name", "rule"),
    [
        ("dog.n.01", "dog.n.01", Rule.NAME),
        ("n02084071", "dog.n.01", Rule.NAME),
        ("airplane", "airplane.n.01", Rule.ONE_SENSE),
        ("golden retriever", "golden_retriever.n.01", Rule.ONE_SENSE),
        ("golden_retriever", "golden_retriever.n.01", Rule.ONE_SENSE),
        (" Golden-Retriever ", "golden_retriever.n.01", Rule.ONE_SENSE),
        ("soft_coated_wheaten_terrier", "soft-coated_wheaten_terrier.n.01", Rule.ONE_SENSE),
        ("t shirt", "jersey.n.03", Rule.ONE_SENSE),
        ("airplanes", "airplane.n.01", Rule.ONE_SENSE),
        ("wolfhounds", "wolfhound.n.01", Rule.ONE_SENSE),
        ("001.Black_footed_Albatross", "black-footed_albatross.n.01", Rule.ONE_SENSE),
        ("tench, Tinca tinca", "tench.n.01", Rule.COMMON_SENSE),
        ("great white shark,white shark, man-eater, man-eating shark", "great_white_shark.n.01", Rule.COMMON_SENSE),
        ("n01440764_tench", "tench.n.01", Rule.WNID_AND_NAME),
        ("n01440764_tench, Tinca tinca", "tench.n.01", Rule.WNID_AND_NAME),
        ("n02085620-Chihuahua", "chihuahua.n.03", Rule.WNID_AND_NAME),
        ("n02098105-soft-coated_wheaten_terrier", "soft-coated_wheaten_terrier.n.01", Rule.WNID_AND_NAME),
        ("n02084071_dogs", "dog.n.01", Rule.WNID_AND_NAME),
        ("n02084071 dog.n.01", "dog.n.01", Rule.WNID_AND_NAME),
    ],
)
def test_a_label_with_one_meaning(wordnet, label, name, rule):
    meaning = wordnet.interpret(label)
    assert (meaning.synset and meaning.synset.name, meaning.rule, meaning.problem) == (name, rule, "")


@pytest.mark.parametrize(
    ("label", "problem", "candidates"),
    [
        ("banana", "'banana' does not say which synset is meant", ["banana.n.01", "banana.n.02"]),
        ("shoes", "does not say which synset", ["place.n.06", "shoe.n.01", "shoe.n.02"]),  # a word, and a plural
        ("teddy", "does not say which synset", ["teddy.n.01", "chemise.n.01"]),
        ("dog.n.08", "'dog.n.08' is no synset", ["dog.n.01", "frump.n.01"]),
        ("craen", "'craen' is no wnid, synset name or noun of WordNet 3.0; did you mean", []),
        ("qzxqzx", "'qzxqzx' is no wnid", []),
        ("dog, qzxqzx", "'dog, qzxqzx': 'qzxqzx' is no noun of WordNet 3.0", []),
        ("airplane, tench", "the words of 'airplane, tench' have no sense in common", ["airplane.n.01", "tench.n.01"]),
        (",", "'' is no noun", []),
        ("007", "'007' is no wnid", []),
        ("_", "'_' is no wnid", []),
        ("n99999999", "no noun synset 'n99999999'", []),
        (
            "n01440764_goldfish",
            "'n01440764_goldfish' contradicts itself: n01440764 is tench.n.01 (tench, Tinca_tinca), not 'goldfish'",
            ["tench.n.01", "goldfish.n.01"],
        ),
        ("n02086723_dog", "'n02086723_dog': WordNet 3.0 has no noun synset 'n02086723'", ["dog.n.01", "frump.n.01"]),
    ],
)
def test_a_label_without_one_meaning_has_its_candidates(wordnet, label, problem, candidates):
    meaning = wordnet.interpret(label)
    assert (meaning.synset, meaning.rule) == (None, None)
    assert problem in meaning.problem
    assert [synset.name for synset in meaning.candidates][: len(candidates)] == candidates
    assert bool(candidates) == bool(meaning.candidates)
    for synset in meaning.candidates[:12]:
        assert f"{synset.name} ({synset.id}: " in meaning.message


def test_all_words_of_imagenets_classes_mean_their_class(wordnet):
    """As `imagenet-1k` of the hub names its classes. Of classes with a single word some are ambiguous."""
    several = [synset for synset in map(wordnet.synset, imagenet_wnids()) if len(synset.lemmas) > 1]
    labels = {synset: ", ".join(lemma.replace("_", " ") for lemma in synset.lemmas) for synset in several}
    found = {synset: wordnet.interpret(label, hint=False).synset for synset, label in labels.items()}
    assert [labels[synset] for synset, meaning in found.items() if meaning not in {None, synset}] == []
    # Two synsets of the very same words, such as two genera of echidnas: only one of them is ImageNet's.
    undecided = [synset for synset, meaning in found.items() if meaning is None]
    assert len(undecided) == 6
    assert [wordnet.interpret(labels[synset], senses="imagenet").synset for synset in undecided] == undecided
    assert len(several) == 492


def test_the_closest_word_has_its_senses_since_the_word_alone_would_be_refused(wordnet):
    assert "did you mean strawberry (strawberry.n.01: sweet fleshy red fruit; strawberry.n.02: " in (
        wordnet.interpret("strawbery").problem
    )
    assert "did you mean airplane, " in wordnet.interpret("airplan").problem  # one sense: the word says enough


def test_no_close_words_are_looked_for_unless_asked(wordnet):
    assert "did you mean" in wordnet.interpret("craen").problem
    assert "did you mean" not in wordnet.interpret("craen", hint=False).problem


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("banana", "banana.n.02"),  # a class
        ("dog", "dog.n.01"),  # above classes
        ("mouse", "mouse.n.04"),
        ("shoes", "shoe.n.01"),
        ("bat", None),  # ImageNet-1k has none
        ("crane", None),  # the bird and the machine
        ("plane", None),  # the carpenter's is a class, the one that flies lies above another
    ],
)
def test_the_sense_that_imagenet_uses(wordnet, label, name):
    meaning = wordnet.interpret(label, senses="imagenet")
    if name is None:
        assert meaning.synset is None
        assert "ImageNet has" in meaning.problem
        assert meaning.candidates == wordnet.interpret(label).candidates
    else:
        assert meaning.synset is not None
        assert (meaning.synset.name, meaning.rule) == (name, Rule.IMAGENET)


def test_imagenet_chooses_among_senses_only(wordnet):
    assert wordnet.interpret("airplane", senses="imagenet").rule is Rule.ONE_SENSE
    assert wordnet.interpret("dog.n.03", senses="imagenet").rule is Rule.NAME
    assert len(wordnet.imagenet_nodes) == 1860


def test_every_class_of_imagenet_is_read_with_each_of_its_names_behind_its_wnid(wordnet):
    for wnid in imagenet_wnids():
        synset = wordnet.synset(wnid)
        for lemma in synset.lemmas:
            for label in (f"{wnid}_{lemma}", f"{wnid}-{lemma.replace('_', ' ').lower()}"):
                assert wordnet.interpret(label, hint=False).synset == synset, label


def test_a_custom_tree_takes_its_names_only(tmp_path):
    (tmp_path / "tree.csv").write_text("child,parent\nrose,flower\ntulip,flower\n")
    tree = load_taxonomy(tmp_path / "tree.csv")
    assert tree.interpret("rose").rule is Rule.NAME
    assert tree.interpret("roze").problem == "'roze' is no node of the taxonomy tree; did you mean rose?"
    assert tree.interpret("roze", hint=False).problem == "'roze' is no node of the taxonomy tree"
    with pytest.raises(UserError, match="no senses to choose from"):
        tree.interpret("rose", senses="imagenet")
