"""A study as a YAML file: one model, one data set, some layers, and sweeps over SAE configurations.

`docs/submit.md` describes the file. Every mistake in it is a `UserError` of one line: file, field, and what to do.
"""

import difflib
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from reprlib import Repr
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, create_model

from hsae.catalog import MAX_PRIORITY
from hsae.errors import UserError
from hsae.extraction.config import ExtractionConfig, complete_extraction
from hsae.hierarchy.config import ComparisonConfig, ProbeConfig, ScoringConfig
from hsae.pipeline.kinds.registry import own_settings
from hsae.pipeline.planning.layer_list import parse_layers
from hsae.pipeline.planning.requests import MAX_SEEDS, SubmitRequest, with_seeds
from hsae.pipeline.planning.yaml_file import load_yaml
from hsae.pydantic_errors import mistakes
from hsae.sae.config import SaeConfig, foreign_setting
from hsae.sae.variants import DEFAULT_KIND, VARIANTS, option_names
from hsae.settings import Settings
from hsae.split_config import SplitConfig, parse_split

MAX_SAES = 1000
_MAX_LAYERS = 10_000
_shown = Repr()  # short, whatever an alias of YAML may stand for
_shown.maxlevel = 2
# What the command line calls some settings: a study file may call them so, too.
_OF_THE_COMMAND_LINE = {"steps": "n_steps", "views": "n_views"} | {
    option: setting for setting, option in option_names().items()
}
# What other tools call them.
_OTHER_NAMES = {
    "width": "expansion", "widths": "expansion", "lr": "learning_rate", "type": "kind", "sae": "saes",
    "layer": "layers", **_OF_THE_COMMAND_LINE,
}  # fmt: skip


def _layers(value: Any) -> tuple[int, ...] | Literal["all"]:
    chosen: set[int] = set()
    if isinstance(value, str):
        parsed = _placed("layers", parse_layers, value)
        if parsed == "all":
            return "all"
        chosen |= set(parsed)
        value = []
    for place, entry in _numbered("layers", value if isinstance(value, list) else [value]):
        if isinstance(entry, int) and not isinstance(entry, bool) and 0 <= entry < _MAX_LAYERS:
            chosen.add(entry)
        elif isinstance(entry, str) and (parsed := _placed(place, parse_layers, entry)) != "all":
            chosen |= set(parsed)
        else:
            raise UserError(f"{place}: {_shown.repr(entry)} is no layer: write numbers, ranges, or `layers: all`")
    if not chosen:
        raise UserError("layers: none is given: write all, a number, or a list such as [0, 4, 8-11]")
    return tuple(sorted(chosen))


def _saes(value: Any) -> tuple[SaeConfig, ...]:
    if not isinstance(value, list) or not value:
        raise UserError("saes: write a list of blocks, each such as `- {kind: topk, expansion: [4, 8], k: 32}`")
    configs: dict[SaeConfig, None] = {}
    for place, block in _numbered("saes", value):
        for config in _sweep(place, block):
            configs[config] = None
        if len(configs) > MAX_SAES:
            raise UserError(f"{place}: more than {MAX_SAES} SAEs per layer: split the study")
    return tuple(configs)


def _sae_from(value: Any) -> tuple[str, ...]:
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, list | tuple) or not all(isinstance(entry, str) and entry.strip() for entry in given):
        raise UserError("sae_from: write names or paths of imported SAEs, such as [my-sae, ./layers.8]")
    return tuple(given)


def _beside(place: str, folder: Path) -> str:
    """A place as ./this is relative to a folder."""
    return str((folder / place).resolve()) if place.startswith(("./", "../")) else place


def _sweep(place: str, block: Any) -> Iterator[SaeConfig]:
    """The product of a block's lists; if it names several kinds, each takes the settings that apply to it."""
    if not isinstance(block, Mapping):
        raise UserError(f"{place}: {_shown.repr(block)} is no block: write {{kind: topk, k: [16, 32]}} or the like")
    known = SaeConfig.defaults()
    values: dict[str, list[Any]] = {}
    for name, given in _as_settings(place, block).items():
        if name not in known:
            raise UserError(f"{place}.{name} is no setting of an SAE{_meant(name, known)}")
        values[name] = given if isinstance(given, list) else [given]
        if not values[name]:
            raise UserError(f"{place}.{name} is an empty list: give at least one value, or leave it out")
        for entry in values[name]:
            if isinstance(entry, list | Mapping | bool):
                raise UserError(
                    f"{place}.{name}: {_shown.repr(entry)} is no single value: write one value, or a list of values"
                )
    n_configs = math.prod(len(listed) for listed in values.values())
    if n_configs > MAX_SAES:
        raise UserError(f"{place} is a sweep over {n_configs} SAEs per layer, more than {MAX_SAES}: split the study")
    kinds = values.get("kind", [DEFAULT_KIND])
    applies = {kind: SaeConfig.settings_of(kind) for kind in VARIANTS}
    for name in values:
        if not any(name in applies.get(str(kind), known) for kind in kinds):
            raise UserError(f"{place}.{foreign_setting(name, kinds[0])}")
    for combination in itertools.product(*values.values()):
        given = dict(zip(values, combination, strict=True))
        own = applies.get(str(given.get("kind", DEFAULT_KIND)), known)
        yield _placed(place, SaeConfig.parse, {name: value for name, value in given.items() if name in own})


def _as_settings(place: str, block: Mapping[Any, Any]) -> dict[Any, Any]:
    """The block with the command line's names (`steps`, `batch-size`) replaced by those of the settings."""
    settings: dict[Any, Any] = {}
    given: dict[Any, Any] = {}
    for name, value in block.items():
        plain = name.replace("-", "_") if isinstance(name, str) else name
        setting = _OF_THE_COMMAND_LINE.get(plain, plain)
        if setting in settings:
            raise UserError(f"{place}: {given[setting]} and {name} are the same setting: leave one out")
        settings[setting], given[setting] = value, name
    return settings


def _split(value: Any) -> Any:
    """Shares as on the command line, or a block, which pydantic reads."""
    if value is None:
        raise UserError("split: it is empty: write none, or shares such as {train: 0.5, select: 0.25, score: 0.25}")
    return _placed("split", parse_split, value) if isinstance(value, str) else value


class StudySpec(BaseModel):
    """The content of the file, with its sweeps expanded."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str | None = Field(default=None, min_length=1, max_length=200, description="name of the study")
    model: str | None = Field(default=None, min_length=1, description="backbone: hub id or folder")
    revision: str | None = Field(default=None, min_length=1, description="branch, tag or commit of a hub model")
    random_init: int | None = Field(
        default=None, strict=True, description="seed of random weights, in place of the model's own"
    )
    dataset: str | None = Field(default=None, min_length=1, description="name of a registered data set")
    score_dataset: str | None = Field(
        default=None, min_length=1, description="name of a data set that selects and scores"
    )
    layers: Annotated[tuple[int, ...] | Literal["all"], BeforeValidator(_layers)]
    saes: Annotated[tuple[SaeConfig, ...], BeforeValidator(_saes)] = ()
    sae_from: Annotated[tuple[str, ...], BeforeValidator(_sae_from)] = Field(
        default=(), description="names or paths of SAEs that other programs trained"
    )
    seeds: int = Field(
        default=1, ge=1, le=MAX_SEEDS, description="SAEs per configuration: its seed, the next one, and so on"
    )
    extraction: ExtractionConfig = ExtractionConfig()
    scoring: ScoringConfig = ScoringConfig()
    comparison: ComparisonConfig = ComparisonConfig()
    probe: ProbeConfig = ProbeConfig()
    split: Annotated[SplitConfig | None, BeforeValidator(_split)] = SplitConfig()
    cross_fit: bool = Field(default=True, description="halves of few images are used in both ways")
    priority: int | None = Field(default=None, ge=0, le=MAX_PRIORITY, description="0 to 9; higher runs first")

    def request(self, settings: Settings, *, folder: Path = Path(), priority: int | None = None) -> SubmitRequest:
        """The request to submit; `folder` is the file's folder, to which a model given as ./folder is relative."""
        model = _beside(self.model or settings.model, folder)
        given = self.extraction.model_dump(include=self.extraction.model_fields_set)
        return SubmitRequest(
            name=self.name,
            model=model,
            revision=self.revision,
            random_init=self.random_init,
            dataset=self.dataset,
            score_dataset=self.score_dataset,
            layers=self.layers,
            saes=with_seeds(self.saes, self.seeds),
            sae_from=tuple(_beside(source, folder) for source in self.sae_from),
            extraction=complete_extraction(given, settings),
            scoring=self.scoring,
            comparison=self.comparison,
            probe=self.probe,
            split=self.split,
            cross_fit=self.cross_fit,
            own=self._own(),
            priority=next((value for value in (priority, self.priority) if value is not None), 0),
        )

    def _own(self) -> dict[str, Any]:
        """The settings of single stages that are not the default."""
        given = {kind: getattr(self, kind, None) for kind in own_settings()}
        return {kind: own for kind, own in given.items() if own is not None and own != type(own)()}


def _with_own_settings() -> type[StudySpec]:
    """The content of the file with a field for every stage that has settings of its own, by the kind's name."""
    fields: dict[str, Any] = {kind: (settings, settings()) for kind, settings in own_settings().items()}
    return create_model("StudySpec", __base__=StudySpec, **fields) if fields else StudySpec


def spec_of(content: Any) -> StudySpec:
    """The study of a file's fields, or of the same fields from elsewhere.

    Raises:
        UserError: a field is not valid.
    """
    try:
        if not isinstance(content, Mapping):
            raise UserError("it holds no fields: write `layers: ...` and `saes: ...` as docs/submit.md shows")
        extraction = content.get("extraction")
        if isinstance(extraction, Mapping):
            content = {**content, "extraction": _as_settings("extraction", extraction)}
        spec = _with_own_settings().model_validate(content)
    except ValidationError as error:
        raise UserError(_first_problem(error)) from error
    if not spec.saes and not spec.sae_from:
        raise UserError("saes is missing: docs/submit.md shows a study file")
    if len(spec.saes) * spec.seeds > MAX_SAES:
        raise UserError(f"seeds: {len(spec.saes)} SAEs of {spec.seeds} seeds are more than {MAX_SAES} per layer")
    if spec.extraction.seed and not spec.extraction.draws:
        raise UserError(
            "extraction.seed is that of augmented views and drawn patches: set extraction.n_views above 1 or"
            " extraction.patches_per_image, or leave it out"
        )
    return spec


def read_spec(path: Path) -> StudySpec:
    """Read a study file; a study without a name is named after its file.

    Raises:
        UserError: there is no such file, it is no YAML, or its content is not valid.
    """
    try:
        spec = spec_of(load_yaml(path))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return spec if spec.name is not None else spec.model_copy(update={"name": path.stem})


def read_block(path: Path, kind: str, *, needed: Sequence[str]) -> Any:
    """The settings of one stage, one of `needed` among them: a file's block, or all of it. Raises as `read_spec`."""
    try:
        content = load_yaml(path)
        block = content.get(kind, content) if isinstance(content, Mapping) else content
        if not isinstance(block, Mapping) or not any(block.get(name) for name in needed):
            raise UserError(f"{kind}.{' or '.join(needed)} is missing: docs/submit.md shows a study file")
        fields: dict[str, Any] = {kind: (own_settings()[kind], ...)}
        return create_model("Block", **fields).model_validate({kind: block}).__dict__[kind]
    except (ValidationError, UserError) as error:
        reason = _first_problem(error) if isinstance(error, ValidationError) else str(error)
        raise UserError(f"{path}: {reason}") from error


def _numbered(place: str, values: list[Any]) -> Iterator[tuple[str, Any]]:
    return ((f"{place}[{i}]", value) for i, value in enumerate(values))


def _placed(place: str, function: Any, value: Any) -> Any:
    """`function(value)`; a `UserError` gets the value's place in the file."""
    try:
        return function(value)
    except UserError as error:
        raise UserError(f"{place}: {error}") from error


def _meant(name: object, known: Iterable[str]) -> str:
    """The name that a mistyped one probably stands for, and all names."""
    names, other = list(known), _OTHER_NAMES.get(str(name))
    close = [other] if other in names else difflib.get_close_matches(str(name), names, n=1)
    return f": did you mean {close[0]}?" if close else f": choose from {', '.join(names)}"


def _first_problem(error: ValidationError) -> str:
    problems = mistakes(error)
    # A mistyped field is also missing under its right name.
    problem = next((found for found in problems if found.kind == "extra_forbidden"), problems[0])
    if (place := problem.place) and problem.kind == "extra_forbidden":
        parts: dict[Any, type[BaseModel]] = {
            "extraction": ExtractionConfig,
            "scoring": ScoringConfig,
            "comparison": ComparisonConfig,
            "probe": ProbeConfig,
            "split": SplitConfig,
            **own_settings(),
        }
        section, *inside = place.split(".")
        part = parts.get(section, StudySpec) if inside else _with_own_settings()
        if {place, place.removesuffix("s"), _OTHER_NAMES.get(place)} & set(SaeConfig.defaults()):
            return f"{place} is a setting of an SAE: write it into a block of saes"
        return f"{place} is no field of a study{_meant(place.split('.')[-1], part.model_fields)}"
    if problem.kind == "missing":
        return f"{place} is missing: docs/submit.md shows a study file"
    return f"{place}: {_shown.repr(problem.value)} is not valid: {problem.reason[0].lower()}{problem.reason[1:]}"
