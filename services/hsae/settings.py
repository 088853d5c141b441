"""Every setting, in one place: `HSAE_*` variables, a `.env` file, and what a running private stack wrote.

Order of precedence: arguments, environment, `.env`, then `<home>/stack.json`. `hsae-admin up` writes that file (mode
0600) for its private Postgres, Valkey and SeaweedFS, so that the other commands find them.
"""

import json
import math
import os
import shlex
from pathlib import Path
from typing import Any, Literal

import platformdirs
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    JsonConfigSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from hsae.errors import UserError
from hsae.pydantic_errors import one_line

STACK_FILE_NAME = "stack.json"
SILENCE_SECONDS = 15
"""A connection to the database or to the object store on which nothing moves for so long is given up."""
DEFAULT_LEASE_SECONDS = 2 * SILENCE_SECONDS
"""Longer than `SILENCE_SECONDS`: a worker must notice a dead connection and renew its lease on a new one in time."""


def default_home() -> Path:
    """The folder of the private stack's data: `HSAE_HOME`, else the platform's user data folder."""
    return Path(os.environ.get("HSAE_HOME") or platformdirs.user_data_dir("hsae", appauthor=False))


class Settings(BaseSettings):
    """Settings of every part of hsae; each field is the variable `HSAE_<FIELD>`.

    Type checkers without pydantic's plugin see a default only where it is written as `default=`.
    """

    model_config = SettingsConfigDict(env_prefix="HSAE_", env_file=".env", extra="ignore", frozen=True)

    home: Path = Field(default_factory=default_home, description="data folder of the private single-machine stack")
    database_url: SecretStr | None = Field(default=None, description="postgresql://user:password@host:port/database")
    broker_url: SecretStr | None = Field(default=None, description="redis://:password@host:port/0")
    s3_endpoint: str | None = Field(default=None, description="host:port of the S3 server, without a scheme")
    s3_access_key: str | None = Field(default=None, description="S3 access key")
    s3_secret_key: SecretStr | None = Field(default=None, description="S3 secret key")
    s3_bucket: str = Field(default="hsae", min_length=3, description="bucket that holds every object")
    s3_region: str = Field(default="us-east-1", description="S3 region")
    s3_secure: bool = Field(default=False, description="use TLS towards the S3 server")

    images_s3_endpoint: str | None = Field(
        default=None, description="host:port of another S3 server, on which the images of s3:// data sets are"
    )
    images_s3_access_key: str | None = Field(default=None, description="its access key; none: it is asked without keys")
    images_s3_secret_key: SecretStr | None = Field(default=None, description="its secret key")
    images_s3_region: str = Field(default="us-east-1", description="its region")
    images_s3_secure: bool = Field(default=True, description="use TLS towards it")

    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="auto takes cuda where there is one")
    gpu_memory_share: float = Field(
        default=1.0, gt=0, le=1, description="of a GPU's memory, the most that a worker takes: others use the rest"
    )
    model: str = Field(default="facebook/dinov2-base", description="default backbone: hub id or local folder")
    model_cache: Path | None = Field(default=None, description="cache folder of hub downloads (default: the hub's own)")
    wordnet: Path | None = Field(
        default=None, description="folder with another WordNet noun database (data.noun, index.noun)"
    )

    max_skipped_share: float = Field(
        default=0.01, ge=0, le=1, description="an extraction fails when more images are skipped"
    )
    max_image_pixels: int = Field(
        default=178_956_970, gt=0, description="larger images are skipped (decompression bombs)"
    )
    lease_seconds: float = Field(
        default=DEFAULT_LEASE_SECONDS, gt=0, description="a job whose worker was silent for so long is taken over"
    )
    reconcile_seconds: float = Field(default=5, gt=0, description="how often a worker looks for lost jobs")
    max_attempts: int = Field(default=3, ge=1, description="how often a job is tried before it fails for good")
    retry_seconds: float = Field(
        default=10, ge=0, description="pause before a job is tried again; doubles up to 5 minutes"
    )
    max_outages: int = Field(
        default=100, ge=0, description="how often a job waits for an unreachable service before it fails"
    )
    log_format: Literal["text", "json"] = Field(default="text", description="how a worker logs to its standard error")
    reader_password: SecretStr | None = Field(
        default=None, description="password of the read-only database role hsae_reader"
    )
    checkpoint_seconds: float = Field(default=60, ge=0, description="how often a running SAE training is checkpointed")
    tensorboard_dir: Path | None = Field(
        default=None, description="folder for TensorBoard, to which a worker also sends the curves of trainings"
    )
    wandb_project: str | None = Field(
        default=None, description="project of Weights & Biases, to which a worker also sends the curves of trainings"
    )

    gpu_analysis_minutes: float = Field(
        default=math.inf,
        ge=0,
        description="an analysis that would take more minutes on two processor cores, as estimated when it is "
        "submitted, goes to the workers of the queue gpu; inf: none does",
    )
    extraction_part_images: int = Field(
        default=20_480,
        ge=0,
        description="an extraction of more images than these is divided into jobs of about as many, which any number "
        "of workers take; 0: one job extracts all",
    )
    trained_together: int = Field(
        default=8, ge=1, description="how many streamed SAEs of one sweep a worker trains over one pass; 1: one by one"
    )
    shard_cache: Path | None = Field(
        default=None,
        description="folder in which a worker keeps the shards that streamed trainings read; none: they are not kept",
    )
    shard_cache_bytes: int = Field(default=20_000_000_000, ge=0, description="the most that shard_cache may hold")

    def remedy_if_away(self, name: Literal["database_url", "broker_url", "s3_endpoint"]) -> str:
        """The end of the message that a server cannot be reached.

        Args:
            name: the setting that says where the server is.

        Returns:
            The command that starts the private stack, where that gave the setting; else the variable to correct.
        """
        value = getattr(self, name)
        plain = value.get_secret_value() if isinstance(value, SecretStr) else value
        home = self.home.expanduser()
        if plain is None or _of_stack(home).get(name) != plain:
            return f"start it or correct HSAE_{name.upper()}"
        choice = "" if home == default_home() else f"--home {shlex.quote(str(home))} "
        return f"start it with `hsae-admin {choice}up`"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Add `<home>/stack.json` as the last source."""
        given = (source().get("home") for source in (init_settings, env_settings, dotenv_settings))
        home = Path(next((value for value in given if value), None) or default_home()).expanduser()
        stack = JsonConfigSettingsSource(settings_cls, json_file=home / STACK_FILE_NAME)
        return init_settings, env_settings, dotenv_settings, stack


def _of_stack(home: Path) -> dict[str, Any]:
    """What the private stack in `home` wrote; nothing where there is none."""
    try:
        content = json.loads((home / STACK_FILE_NAME).read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def load_settings(home: Path | None = None) -> Settings:
    """Read the settings; a value that does not fit is a `UserError` that names its variable."""
    try:
        return Settings() if home is None else Settings(home=home)
    except ValidationError as error:
        wrong = one_line(error, lambda it: f"HSAE_{it.place.replace('.', '_').upper()}: {it.reason}")
        raise UserError(f"setting {wrong}; correct the variable or the .env file") from error
    except (OSError, TypeError, ValueError) as error:
        raise UserError(
            f"the settings cannot be read ({error}): correct .env, or delete the private stack's {STACK_FILE_NAME}"
            " and run `hsae-admin up`"
        ) from error
