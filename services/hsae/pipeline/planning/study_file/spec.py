"""The content of a study file, checked."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, create_model

from hsae.catalog import MAX_PRIORITY
from hsae.errors import UserError
from hsae.extraction.config import DropAfter, ExtractionConfig, chosen_precision, complete_extraction
from hsae.hierarchy.config import ComparisonConfig, ProbeConfig, ScoringConfig
from hsae.pipeline.kinds.registry import own_settings
from hsae.pipeline.planning.layer_list import parse_layers
from hsae.pipeline.planning.requests import MAX_SEEDS, SubmitRequest, with_seeds
from hsae.pipeline.planning.study_file.gathering import gathered, numbered, placed, shown
from hsae.pipeline.planning.study_file.sweeps import MAX_SAES, OTHER_NAMES, as_settings, meant, read_saes
from hsae.pipeline.planning.study_file.yaml_file import load_yaml
from hsae.pydantic_errors import SAID, Mistake, collected, mistakes
from hsae.sae.config import SaeConfig
from hsae.settings import Settings
from hsae.split_config import SplitConfig, parse_split

MAX_MISTAKES = 10
_MAX_LAYERS = 10_000


def _layers(value: Any) -> tuple[int, ...] | Literal["all"]:
    if isinstance(value, str):
        parsed = placed("layers", parse_layers, value)
        if parsed == "all":
            return "all"
        chosen = set(parsed)
    else:
        listed = numbered("layers", value if isinstance(value, list) else [value])
        chosen = {layer for layers in gathered(_layer_entry, listed) for layer in layers}
    if not chosen:
        raise UserError("layers: none is given: write all, a number, or a list such as [0, 4, 8-11]")
    return tuple(sorted(chosen))


def _layer_entry(place: str, entry: Any) -> tuple[int, ...]:
    if isinstance(entry, int) and not isinstance(entry, bool) and 0 <= entry < _MAX_LAYERS:
        return (entry,)
    if isinstance(entry, str) and (parsed := placed(place, parse_layers, entry)) != "all":
        return tuple(parsed)
    raise UserError(f"{place}: {shown.repr(entry)} is no layer: write numbers, ranges, or `layers: all`")


def _sae_from(value: Any) -> tuple[str, ...]:
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, list | tuple) or not all(isinstance(entry, str) and entry.strip() for entry in given):
        raise UserError("sae_from: write names or paths of imported SAEs, such as [my-sae, ./layers.8]")
    return tuple(given)


def _beside(place: str, folder: Path) -> str:
    """A place as ./this is relative to a folder."""
    return str((folder / place).resolve()) if place.startswith(("./", "../")) else place


def _split(value: Any) -> Any:
    """Shares as on the command line, or a block, which pydantic reads."""
    if value is None:
        raise UserError("split: it is empty: write none, or shares such as {train: 0.5, select: 0.25, score: 0.25}")
    return placed("split", parse_split, value) if isinstance(value, str) else value


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
    layers: Annotated[tuple[int, ...] | Literal["all"], BeforeValidator(collected(_layers))]
    saes: Annotated[tuple[SaeConfig, ...], BeforeValidator(collected(read_saes))] = ()
    sae_from: Annotated[tuple[str, ...], BeforeValidator(collected(_sae_from))] = Field(
        default=(), description="names or paths of SAEs that other programs trained"
    )
    seeds: int = Field(
        default=1, ge=1, le=MAX_SEEDS, description="SAEs per configuration: its seed, the next one, and so on"
    )
    extraction: ExtractionConfig = ExtractionConfig()
    scoring: ScoringConfig = ScoringConfig()
    comparison: ComparisonConfig = ComparisonConfig()
    probe: ProbeConfig = ProbeConfig()
    split: Annotated[SplitConfig | None, BeforeValidator(collected(_split))] = SplitConfig()
    cross_fit: bool = Field(default=True, description="halves of few images are used in both ways")
    drop_after: DropAfter | None = Field(
        default=None, description="analyze: activations are deleted once every job that reads them has succeeded"
    )
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
            extraction=complete_extraction(given, max_image_pixels=settings.max_image_pixels),
            scoring=self.scoring,
            comparison=self.comparison,
            probe=self.probe,
            split=self.split,
            cross_fit=self.cross_fit,
            own=self._own(),
            drop_after=self.drop_after,
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
            named = as_settings("extraction", extraction)
            if named.get("precision") == "auto":
                named["precision"] = chosen_precision("auto", named.get("dtype", "float32"))
            content = {**content, "extraction": named}
        spec = _with_own_settings().model_validate(content)
    except ValidationError as error:
        raise UserError(_problems(error)) from error
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
        reason = _problems(error) if isinstance(error, ValidationError) else str(error)
        raise UserError(f"{path}: {reason}") from error


def _problems(error: ValidationError) -> str:
    """Everything that is wrong, in one line; of very many mistakes the first ones."""
    found = mistakes(error)
    lines = list(dict.fromkeys(_problem(one) for one in found if one.kind != "missing"))
    for one in found:  # a mistyped field is also missing under its right name
        if one.kind == "missing" and not any(f"did you mean {one.place.split('.')[-1]}?" in line for line in lines):
            lines.append(f"{one.place} is missing: docs/submit.md shows a study file")
    lines = _names_listed_once(lines)
    more = [f"mistakes beyond these: {len(lines) - MAX_MISTAKES}"] if len(lines) > MAX_MISTAKES else []
    return "; ".join(lines[:MAX_MISTAKES] + more)


def _names_listed_once(lines: list[str]) -> list[str]:
    """The lines; where several end with the same names to choose from, the first alone has them."""
    seen: set[str] = set()
    shortened = []
    for line in lines:
        said, _, names = line.partition(": choose from ")
        shortened.append(said if names in seen else line)
        seen |= {names} if names else set()
    return shortened


def _problem(problem: Mistake) -> str:
    if problem.kind == SAID:
        return problem.reason
    if (place := problem.place) and problem.kind == "extra_forbidden":
        parts: dict[str, type[BaseModel]] = {
            "extraction": ExtractionConfig,
            "scoring": ScoringConfig,
            "comparison": ComparisonConfig,
            "probe": ProbeConfig,
            "split": SplitConfig,
            **own_settings(),
        }
        section, *inside = place.split(".")
        part = parts[section] if inside else _with_own_settings()
        if {place, place.removesuffix("s"), OTHER_NAMES.get(place)} & set(SaeConfig.defaults()):
            return f"{place} is a setting of an SAE: write it into a block of saes"
        return f"{place} is no field of a study{meant(place.split('.')[-1], part.model_fields)}"
    return f"{place}: {shown.repr(problem.value)} is not valid: {problem.reason[0].lower()}{problem.reason[1:]}"
