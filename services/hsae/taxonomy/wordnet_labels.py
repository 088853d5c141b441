"""Read labels in WordNet: an exact name of a synset, or a word of which a rule selects one sense."""

import itertools
import re
from typing import TYPE_CHECKING

from hsae.errors import UserError
from hsae.taxonomy.taxonomy import Interpretation, Rule, SenseChoice, Synset, close_matches_hint, short_definition
from hsae.taxonomy.wordnet_database import REQUIRED_VERSION

if TYPE_CHECKING:
    from hsae.taxonomy.wordnet_nouns import WordNetNouns

WNID = re.compile(r"([nvasr])(\d{8})")
_SYNSET_NAME = re.compile(r"(.+)\.([nvasr])\.(\d{1,3})")
_WNID_AND_NAME = re.compile(r"(n\d{8})[\s_.,:-]+(.+)")
_NUMBER = re.compile(r"\d+[\s_.-]+(?=\D)")
_SEPARATOR = re.compile(r"[\s_-]+")
_MAX_SEPARATORS = 6  # each may be "_" or "-" in WordNet


def read_name(nouns: "WordNetNouns", label: str, *, hint: bool = True) -> Interpretation:
    """The synset with this wnid or name; a bare word is not accepted, even if it has only one sense."""
    label = label.strip()
    if match := WNID.fullmatch(label):
        return _not_a_noun(label) if match[1] != "n" else _of_wnid(nouns, label)
    if match := _is_synset_name(label):
        if match[2] != "n":
            return _not_a_noun(label)
        synset = nouns.named(match[1], int(match[3]))
        if synset is not None:
            return Interpretation(synset, Rule.NAME)
        return _unclear(nouns, label, match[1], f"is no synset of WordNet {REQUIRED_VERSION}", hint=hint)
    return _unclear(nouns, label, label, "does not say which synset is meant", hint=hint)


def read_label(nouns: "WordNetNouns", label: str, senses: SenseChoice | None, *, hint: bool) -> Interpretation:
    """The meaning of the label of a class.

    Accepts what `read_name` accepts, and also:

    - a wnid followed by a name (`n01440764_tench`): the wnid, if the name is one of its lemmas;
    - a word with one noun sense. Case and plural do not matter, the parts may be joined by spaces, "_" or "-", and a
      leading number is ignored (`001.Laysan_Albatross`). For a word that is also a plural (`shoes`), the senses of both
      count;
    - several words between commas that have exactly one noun sense in common (`tench, Tinca tinca`);
    - with `senses`: a word with exactly one sense in the hierarchy of ImageNet-1k's classes.
    """
    label = label.strip()
    if match := _WNID_AND_NAME.fullmatch(label):
        return _of_wnid_and_name(nouns, label, match[1], match[2])
    if WNID.fullmatch(label) or _is_synset_name(label):
        return read_name(nouns, label, hint=hint)
    word = label if word_senses(nouns, label) else _NUMBER.sub("", label, count=1)
    found = _common_senses(nouns, word)
    if len(found) == 1:
        return Interpretation(found[0], Rule.COMMON_SENSE if "," in word else Rule.ONE_SENSE)
    problem = "does not say which synset is meant"
    if found and senses == "imagenet":
        known = [synset for synset in found if synset.id in nouns.imagenet_nodes]
        if len(known) == 1:
            return Interpretation(known[0], Rule.IMAGENET, candidates=found)
        problem += f", and ImageNet has {len(known) or 'none'} of its senses"
    return _unclear(nouns, label, word, problem, hint=hint)


def _common_senses(nouns: "WordNetNouns", words: str) -> tuple[Synset, ...]:
    """The noun senses that all words between commas have; of several the one that has no other words."""
    first, *others = (word_senses(nouns, word) for word in words.split(","))
    common = tuple(synset for synset in first if all(synset in senses for senses in others))
    given = {word.strip().lower() for word in words.split(",")}
    exact = tuple(synset for synset in common if {lemma.replace("_", " ").lower() for lemma in synset.lemmas} == given)
    return exact if others and len(exact) == 1 else common


def word_senses(nouns: "WordNetNouns", word: str) -> tuple[Synset, ...]:
    """The noun senses of a word and of its singular, most frequent first."""
    parts = _SEPARATOR.split(word.strip().lower())
    if len(parts) - 1 > _MAX_SEPARATORS:
        forms = ["_".join(parts)]
    else:
        choices = itertools.product("_-", repeat=len(parts) - 1)
        forms = ["".join(itertools.chain(*zip(parts, (*between, ""), strict=True))) for between in choices]
    found = {synset.id: synset for form in forms if form for synset in nouns.senses(form)}
    return tuple(found.values())


def _of_wnid(nouns: "WordNetNouns", wnid: str) -> Interpretation:
    try:
        return Interpretation(nouns.synset(wnid), Rule.NAME)
    except UserError as error:
        return Interpretation(None, problem=str(error))


def _of_wnid_and_name(nouns: "WordNetNouns", label: str, wnid: str, name: str) -> Interpretation:
    synset = _of_wnid(nouns, wnid)
    others = word_senses(nouns, name)
    if synset.synset is None:
        return Interpretation(None, problem=f"{label!r}: {synset.problem}", candidates=others)
    lemmas = {_letters(lemma) for lemma in synset.synset.lemmas}
    fits = all(_letters(part) in lemmas for part in name.split(","))  # ImageNet lists all lemmas: tench, Tinca tinca
    if fits or synset.synset in others or (_is_synset_name(name) and read_name(nouns, name).synset == synset.synset):
        return Interpretation(synset.synset, Rule.WNID_AND_NAME)
    called = ", ".join(synset.synset.lemmas)
    return Interpretation(
        None,
        problem=f"{label!r} contradicts itself: {wnid} is {synset.synset.name} ({called}), not {name!r}",
        candidates=(synset.synset, *others),
    )


def _is_synset_name(label: str) -> re.Match[str] | None:
    return _SYNSET_NAME.fullmatch(label.replace(" ", "_").lower())


def _letters(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).lower()


def _not_a_noun(label: str) -> Interpretation:
    return Interpretation(None, problem=f"{label!r} is not a noun; only WordNet's nouns can label images")


def _unclear(nouns: "WordNetNouns", label: str, word: str, problem: str, *, hint: bool) -> Interpretation:
    """The problem, with the senses of `word` as candidates, or with similar words if it has no sense."""
    candidates = _common_senses(nouns, word)
    if candidates:
        return Interpretation(None, problem=f"{label!r} {problem}", candidates=candidates)
    if "," in word:
        return _no_common_sense(nouns, label, word)
    close = ""
    if hint:
        close = close_matches_hint(word.replace(" ", "_").lower(), nouns.lemmas(), lambda lemma: _listed(nouns, lemma))
    return Interpretation(
        None, problem=f"{label!r} is no wnid, synset name or noun of WordNet {REQUIRED_VERSION}{close}"
    )


def _no_common_sense(nouns: "WordNetNouns", label: str, words: str) -> Interpretation:
    of_words = {word.strip(): word_senses(nouns, word) for word in words.split(",")}
    unknown = [word for word, senses in of_words.items() if not senses]
    if unknown:
        names = ", ".join(map(repr, unknown))
        return Interpretation(None, problem=f"{label!r}: {names} is no noun of WordNet {REQUIRED_VERSION}")
    candidates = tuple({synset.id: synset for senses in of_words.values() for synset in senses}.values())
    return Interpretation(None, problem=f"the words of {label!r} have no sense in common", candidates=candidates)


def _listed(nouns: "WordNetNouns", lemma: str) -> str:
    """The senses of a word that has several: the word alone would be refused as well."""
    senses = nouns.senses(lemma)
    if len(senses) == 1:
        return ""
    return f" ({'; '.join(f'{synset.name}: {short_definition(synset)}' for synset in senses)})"
