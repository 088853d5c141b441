"""Image folders that cannot be read as they are: links, names, permissions, labels."""

import os
import shutil

import pytest
from tests.datasets.small_images import CAT, CRANE_BIRD, DOG, add_image, fails, listing_of, write

from hsae.datasets import check_images, scan
from hsae.errors import UserError


def test_a_class_folder_says_what_it_holds_instead_of_images(pets, wordnet):
    for number in range(3):
        write((pets / CAT / f"{number}.heic"), "x")
    (pets / CAT / "c.webp").unlink()
    fails(pets, wordnet, rf"class folder '{CAT}'.*holds no images \(3 .heic; .*convert them to JPEG or PNG\)")


def test_links_that_lead_nowhere_or_in_circles(pets, wordnet):
    (pets / CAT / "up").symlink_to(pets / CAT, target_is_directory=True)
    fails(pets, wordnet, "link to a folder above itself")
    (pets / CAT / "up").unlink()
    (pets / CAT / "gone.png").symlink_to(pets / "nothing.png")
    fails(pets, wordnet, "gone.png: cannot be read")
    (pets / CAT / "gone.png").unlink()
    (pets / CRANE_BIRD).symlink_to(pets / "nothing")
    fails(pets, wordnet, f"{CRANE_BIRD}: cannot be read")
    (pets / CRANE_BIRD).unlink()
    (pets / CRANE_BIRD).symlink_to(pets / CRANE_BIRD)
    fails(pets, wordnet, f"{CRANE_BIRD}: cannot be read")


@pytest.mark.parametrize("above", [".", "..", "../.."])
def test_a_link_to_the_top_folder_or_further_up_is_named_itself(pets, wordnet, above):
    """Not what is found by following it: that folder, a real one, is not to be removed."""
    (pets / CAT / "deep").mkdir()
    link = pets / CAT / "deep" / "up"
    link.symlink_to(pets / above, target_is_directory=True)
    fails(pets, wordnet, f"^{link}: is a link to a folder above itself; remove the link$")
    seen_through_a_link = pets.parent / "view"
    seen_through_a_link.symlink_to(pets, target_is_directory=True)
    fails(seen_through_a_link, wordnet, f"^{seen_through_a_link}/{CAT}/deep/up: is a link to a folder above itself")


def test_a_class_folder_that_is_a_link_to_the_top(pets, wordnet):
    (pets / CRANE_BIRD).symlink_to(pets, target_is_directory=True)
    fails(pets, wordnet, f"^{pets / CRANE_BIRD}: is a link to a folder above itself")


def test_a_pipe_is_not_waited_for(pets, wordnet):
    os.mkfifo(pets / CAT / "pipe.png")
    fails(pets, wordnet, "no regular file")


def test_labels_that_are_no_synsets(pets, wordnet):
    (pets / CAT).rename(pets / "crane")
    fails(pets, wordnet, r"class folder 'crane' of .*candidates: .*crane\.n\.05 \(n02012849.*folder,synset")
    (pets / "crane").rename(pets / "craen")
    fails(pets, wordnet, "class folder 'craen'.*did you mean.*folder,synset")


def test_a_folder_of_splits(tmp_path, wordnet):
    add_image(tmp_path / "train" / DOG / "a.png")
    add_image(tmp_path / "val" / DOG / "b.png")
    fails(tmp_path, wordnet, f"class folder 'train'.*give {tmp_path}/train itself")


def test_folders_that_cannot_be_used(tmp_path, pets, wordnet):
    fails(tmp_path / "absent", wordnet, "there is no such folder or file")
    fails(write(tmp_path / "x.zip", ""), wordnet, "neither a folder of class folders nor a .csv")
    (tmp_path / "empty").mkdir()
    fails(
        tmp_path / "empty", wordnet, "holds no class folders; put .* or list them with their labels in a CSV path,label"
    )
    add_image(tmp_path / "empty" / "flat.png")
    add_image(tmp_path / "empty" / "@eaDir" / "thumbnail.png")
    found = r"holds no class folders \(found: 1 .png; 1 folder of other programs \(@eaDir\)\); .*CSV path,label"
    fails(tmp_path / "empty", wordnet, found)
    (pets / CRANE_BIRD).mkdir()
    write(pets / CRANE_BIRD / "notes.txt", "")
    fails(pets, wordnet, f"class folder '{CRANE_BIRD}'.*holds no images")
    shutil.rmtree(pets / CRANE_BIRD)
    shutil.rmtree(pets / CAT)
    fails(pets, wordnet, r"all images are of one class \(dog.n.01, n02084071\)")


def test_names_that_are_not_utf8(pets, wordnet):
    bad = os.fsdecode(b"caf\xe9.png")
    try:
        add_image(pets / CAT / bad)
    except OSError:
        pytest.skip("this file system refuses names that are not UTF-8")
    fails(pets, wordnet, r"caf\\xe9.png: the name is not UTF-8")
    (pets / CAT / bad).unlink()
    (pets / os.fsdecode(b"caf\xe9")).mkdir()
    fails(pets, wordnet, r"caf\\xe9: the name is not UTF-8")


def test_files_without_permission(pets, wordnet):
    (pets / CAT / "c.webp").chmod(0)
    if os.access(pets / CAT / "c.webp", os.R_OK):
        pytest.skip("root may read anything")
    fails(pets, wordnet, "c.webp: cannot be read")
    fails(listing_of(pets, [("dog.n.01/b.png", DOG), (f"{CAT}/c.webp", CAT)]), wordnet, "c.webp: cannot be read")
    (pets / CAT).chmod(0)
    fails(pets, wordnet, f"{CAT}: cannot be read")
    pets.chmod(0)
    fails(pets, wordnet, "pets: cannot be read")
    fails(pets / "images.csv", wordnet, "images.csv.*cannot be read")
    pets.chmod(0o700)
    (pets / CAT).chmod(0o700)


def test_wrong_mappings(pets, tmp_path, wordnet):
    (pets / CAT).rename(pets / "crane")
    for rows, message in (
        ("Crane,crane.n.05\n", "line 2: the data set has no 'Crane', and 'crane' is not mapped"),
        ("crane,crane\n", "line 2: 'crane' does not say which synset"),
        ("crane,crane.n.05\ncrane,crane.n.04\n", "line 3: 'crane' is already mapped to 'crane.n.05'"),
        ("crane,\n", "line 2: the synset is blank"),
    ):
        fails(pets, wordnet, message, mapping=write(tmp_path / "map.csv", "folder,synset\n" + rows))
    fails(pets, wordnet, "there is no such file", mapping=tmp_path / "absent.csv")
    fails(pets, wordnet, "no column 'folder'", mapping=write(tmp_path / "map.csv", "path,label\na,b\n"))


def test_a_listed_file_without_permission_or_gone_later(pets, wordnet):
    dataset = scan(pets, wordnet)
    (pets / CAT / "c.webp").unlink()
    with pytest.raises(UserError, match="cannot be read"):
        check_images(dataset, max_pixels=1000)
