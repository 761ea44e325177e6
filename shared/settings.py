"""Settings that every service has; each service adds its own and its environment prefix."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeVar

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.errors import UsageError


class ServiceSettings(BaseSettings):
    """Read from the environment, checked before anything starts. No default works in production by accident."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    database: str = Field(description="DSN of the service's own PostgreSQL database")
    owner_database: str | None = Field(
        None,
        description="DSN of the role that owns the tables, for `migrate` (else DATABASE's does)",
    )
    kafka: str = Field(description="bootstrap servers, host:port[,host:port]")
    program: Path = Field(description="the program file (YAML)")
    program_versions: Path | None = Field(
        None, description="the folder of its later versions (`treue program apply`)"
    )
    keys_file: Path | None = Field(None, description="hashes and scopes of the API keys (JSON)")
    keys: SecretStr | None = Field(None, description="the same as text, in place of the file")
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(description="port of the API", ge=1, le=65535)
    worker_port: int = Field(description="port of the worker's health and metrics", ge=1, le=65535)
    pool_size: int = Field(8, description="most database connections of the API process", ge=1)
    log_format: Literal["json", "console"] = "json"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    def key_source(self) -> Path | str:
        """Where the API keys are. Raises UsageError if that is said nowhere."""
        if self.keys_file is not None:
            return self.keys_file
        if self.keys is not None:
            return self.keys.get_secret_value()
        prefix = self.model_config.get("env_prefix", "")
        raise UsageError(
            f"settings in the environment: {prefix}KEYS_FILE or {prefix}KEYS is needed"
        )


S = TypeVar("S", bound=ServiceSettings)


def load(kind: type[S]) -> S:
    """The settings of this process. Raises UsageError that names every variable that is missing or wrong."""
    try:
        return kind()
    except ValidationError as error:
        prefix = kind.model_config.get("env_prefix", "")
        wrong = "; ".join(
            f"{prefix}{'_'.join(str(part) for part in item['loc']).upper()}: {item['msg']}"
            for item in error.errors()
        )
        raise UsageError(f"settings in the environment: {wrong}") from None
