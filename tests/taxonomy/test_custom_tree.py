"""A custom taxonomy from a CSV: trees, DAGs, and everything that can be wrong with one."""

import unicodedata
from pathlib import Path

import pytest

from hsae.errors import UserError
from hsae.taxonomy import induce, load_taxonomy

TREE = "child,parent\nfruit,food\npear,fruit\napple,fruit\napple,breakfast\nbreakfast,food\n"


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    "content",
    [
        TREE,
        TREE.replace("\n", "\r\n"),
        TREE.replace("\n", "\r"),
        b"\xef\xbb\xbf" + TREE.encode(),
        TREE + "\n,\n   \n",
        TREE + "apple,fruit\n",
        TREE.replace("child,parent", " Child , PARENT ").replace("pear,fruit", ' pear ,"fruit"'),
        "note,parent,child\n" + "".join(f"x,{p},{c}\n" for c, p in (r.split(",") for r in TREE.split()[1:])),
    ],
    ids=["plain", "crlf", "cr", "bom", "blank-rows", "repeated-row", "spaces", "other-columns"],
)
def test_read(tmp_path, content):
    taxonomy = load_taxonomy(write(tmp_path / "my food.csv", content))
    assert taxonomy.name == "my food"
    assert taxonomy.hypernyms("apple") == ("breakfast", "fruit")
    assert taxonomy.hyponyms("fruit") == ("apple", "pear")
    assert taxonomy.hypernyms("food") == ()
    apple = taxonomy.resolve(" apple ")
    assert (apple.id, apple.name, apple.lemmas, apple.definition) == ("apple", "apple", ("apple",), "")
    induced = induce(taxonomy, ["apple", "pear"])
    assert [s.id for s in induced.synsets] == ["apple", "breakfast", "food", "fruit", "pear"]


def test_names_are_compared_in_one_unicode_form(tmp_path):
    decomposed = unicodedata.normalize("NFD", "Äpfel")
    taxonomy = load_taxonomy(write(tmp_path / "t.csv", f"child,parent\n{decomposed},Obst\nBirne,Obst\n"))
    assert taxonomy.resolve("Äpfel") == taxonomy.resolve(decomposed)


def test_unknown_nodes(tmp_path):
    taxonomy = load_taxonomy(write(tmp_path / "t.csv", TREE))
    with pytest.raises(UserError, match="'aple' is no node of the taxonomy t; did you mean apple"):
        taxonomy.resolve("aple")
    for ask in (taxonomy.synset, taxonomy.hypernyms, taxonomy.hyponyms):
        with pytest.raises(UserError, match="no node"):
            ask("n02084071")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("child,parent\n", "no rows"),
        ("child,parent\na,b\nb,c\nc,a\n", r"cycle \(.*a.*\)"),
        ("child,parent\na,a\n", r"cycle \(a -> a\)"),
        ("child,parent\na,b\nc,d\n", r"2 nodes have no parent \(b, d\)"),
        ("child,parent\na,b\nc,\n", "line 3: the parent is blank"),
        ("child,parent\n ,b\n", "line 2: the child is blank"),
        ("child;parent\na;b\n", r"names one column \(found: child;parent\); it needs child,parent, or ranks"),
        ("child,parents\na,b\n", r"no column 'parent' \(found: child, parents\)"),
        ("kid,parent\na,b\n", "no column 'child'"),
        ("child,child,parent\na,b,c\n", "more than one column 'child'"),
        ("child,parent\na\n", "line 2: 1 field, and the header has 2"),
        ("child,parent\na,b,c\n", "line 2: 3 fields, and the header has 2"),
        ('child,parent\n"a,b\n', "not valid CSV"),
        ('child,parent\n"a"b,c\n', "not valid CSV"),
        ("child,parent\nä,b\n".encode("latin-1"), "is not UTF-8"),
        ("child,parent\na,b\n".encode("utf-16"), "is not UTF-8"),
    ],
)
def test_wrong_files(tmp_path, content, message):
    with pytest.raises(UserError, match=message) as caught:
        load_taxonomy(write(tmp_path / "t.csv", content))
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match="there is no such file"):
        load_taxonomy(tmp_path / "absent.csv")
    with pytest.raises(UserError, match="cannot be read"):
        load_taxonomy(tmp_path / ("x" * 300 + ".csv"))
