"""SAEs that another program trained: they are registered by a name, and a submit takes them by it, or by a path."""

from pathlib import Path

from sqlalchemy import select

from hsae.catalog import ImportedSae, transaction
from hsae.catalog.queries.saes import find_imported
from hsae.catalog.server.locks import DATASET_LOCK, take_lock
from hsae.errors import UserError
from hsae.pipeline.connections import Connections
from hsae.pipeline.inputs.dataset_names import check_name
from hsae.pipeline.planning.requests import SubmitRequest
from hsae.pipeline.submission.sae_choice import is_sae_path
from hsae.sae.config import SaeConfig
from hsae.sae.exchange.place import SaePlace
from hsae.sae.exchange.read import ReadSae, read_sae
from hsae.sae.model import SparseAutoencoder
from hsae.store.keys import imported_key
from hsae.store.tensors import put_tensors


def read_checked(
    place: SaePlace,
    *,
    format_name: str | None = None,
    name: str | None,
    layer: int | None,
    model: str | None = None,
    hook: str | None = None,
) -> ReadSae:
    """Read an SAE to register, with everything that can be refused refused; see `read_sae`.

    Raises:
        ServiceError: the hub cannot be reached.
        UserError: it cannot be read or expressed, or its name cannot be one.
    """
    found = read_sae(place, format_name=format_name, name=name, layer=layer, model=model, hook=hook)
    origin = found.config.imported
    if origin is None:  # of our own format: by a name it becomes an imported one
        return read_checked(place, format_name=format_name, name=_name_of(place), layer=layer, model=model, hook=hook)
    _check_sae_name(origin.name)
    SparseAutoencoder.from_tensors(found.tensors, found.config)
    return found


def register_sae(connections: Connections, found: ReadSae, source: str) -> tuple[SaeConfig, bool]:
    """Store the weights and enter the SAE; returns its config and whether it is new.

    The same SAE is registered once: with the same name again, what is missing of it is stored again.

    Raises:
        UserError: its name belongs to another SAE, or the same SAE has another name.
    """
    origin = found.config.imported
    if origin is None:
        raise ValueError("only an imported SAE is registered")
    path = Path(source).expanduser()
    source = str(path.resolve()) if path.exists() else source
    with transaction(connections.sessions) as session:
        take_lock(session, DATASET_LOCK)  # the garbage collector, which takes it too, sees object and row or neither
        same = session.scalars(select(ImportedSae).where(ImportedSae.key == origin.key)).one_or_none()
        named = session.scalars(select(ImportedSae).where(ImportedSae.name == origin.name)).one_or_none()
        if same is not None and same.name != origin.name:
            raise UserError(f"this SAE is registered as {same.name}: use that name")
        if named is not None and named.key != origin.key:
            raise UserError(f"the name {origin.name} belongs to another imported SAE: choose one with --name")
        stored = put_tensors(
            connections.store,
            imported_key(origin.key),
            found.tensors,
            {"config": found.config.model_dump_json()},
        )
        if same is not None:
            same.config = found.config.model_dump(mode="json")
            same.source, same.weights_sha256 = source, stored.sha256
            return found.config, False
        session.add(
            ImportedSae(
                key=origin.key,
                name=origin.name,
                config=found.config.model_dump(mode="json"),
                source=source,
                weights_sha256=stored.sha256,
            )
        )
    return found.config, True


def with_imported(connections: Connections, request: SubmitRequest) -> tuple[SubmitRequest, list[tuple[ReadSae, str]]]:
    """The request with the SAEs of its `sae_from`, and those that are not registered yet, with their sources.

    Raises:
        ServiceError: the hub cannot be reached.
        UserError: a name is unknown, a name is also that of another SAE in this folder, or an SAE cannot be read.
    """
    configs: list[SaeConfig] = []
    unregistered: list[tuple[ReadSae, str]] = []
    for given in request.sae_from:
        with transaction(connections.sessions) as session:
            row = None if is_sae_path(given) else find_imported(session, given)
        if row is not None:
            _refuse_ambiguous(given, row)
            configs.append(SaeConfig.parse(row.config))
            continue
        found = read_checked(SaePlace(given), name=None, layer=None)
        configs.append(found.config)
        unregistered.append((found, given))
    saes = tuple(dict.fromkeys((*request.saes, *configs)))
    return request.model_copy(update={"saes": saes, "sae_from": ()}), unregistered


def _refuse_ambiguous(given: str, row: ImportedSae) -> None:
    """Refuse the name of a registered SAE where a file or folder of that name, here, holds another one.

    Raises:
        UserError: it does.
    """
    here = Path(given)
    if not here.exists() or here.resolve() == Path(row.source).resolve():
        return
    try:
        found = read_checked(SaePlace(f"./{given}"), name=None, layer=None)
    except UserError:  # no SAE
        return
    if found.config.imported is not None and found.config.imported.key == row.key:
        return
    raise UserError(
        f"--sae-from {given} is ambiguous: {given} is registered (read from {row.source}), and a different SAE lies"
        f" here, {here.absolute()}: for what lies here, give it a name, `hsae-admin sae import ./{given} --name NEW`;"
        " for the registered one submit from another folder"
    )


def _name_of(place: SaePlace) -> str:
    return Path(place.subfolder or place.source).expanduser().resolve().name


def _check_sae_name(name: str) -> None:
    """Refuse what could be taken for a path or an option.

    Raises:
        UserError: it could.
    """
    try:
        check_name(name)
    except UserError as error:
        said = str(error).replace("no name for a data set", "no name for an SAE").replace("birds-2024", "clip-layer-8")
        raise UserError(f"{said}: give it with --name") from error
