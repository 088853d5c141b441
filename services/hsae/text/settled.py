"""Settings of names with what only the place of a submit knows: the model's identity, and the words of a file."""

from functools import partial
from pathlib import Path

from hsae.text.config import WORDNET, NameSettings
from hsae.text.models import find_text_model
from hsae.text.tower import knows, load_tokenizer
from hsae.text.vocabulary import Entry, known_entries, read_words


def settled_names(settings: NameSettings, model_cache: Path | None) -> NameSettings:
    """The settings with the model's name, revision and tokenizer, and the words of the file.

    Raises:
        ServiceError: the hub cannot be reached, and its cache lacks the model.
        UserError: the model has no text tower, the file cannot be read, or the model knows no word of it.
    """
    found = find_text_model(
        settings.by, revision=settings.revision, tokenizer=settings.tokenizer, cache_dir=model_cache
    )
    words = settings.words
    if settings.vocabulary != WORDNET and not words:
        words = read_words(Path(settings.vocabulary).expanduser())
        entries = tuple(Entry(word, (word,), "", -1) for word in words)
        known_entries(entries, partial(knows, load_tokenizer(found)), found.name)
    return settings.model_copy(
        update={"by": found.name, "revision": found.revision, "tokenizer": found.tokenizer, "words": words}
    )
