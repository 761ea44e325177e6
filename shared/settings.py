"""Settings that every service has; each service adds its own and its environment prefix."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeVar

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.errors import UsageError


class ServiceSettings(BaseSettings):
    """Read from the environment, checked before anything starts. No default works in production by accident."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    database: str = Field(description="DSN of the service's own PostgreSQL database")
    kafka: str = Field(description="bootstrap servers, host:port[,host:port]")
    program: Path = Field(description="the program file (YAML)")
    keys_file: Path = Field(description="hashes and scopes of the API keys (JSON)")
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(description="port of the API", ge=1, le=65535)
    worker_port: int = Field(description="port of the worker's health and metrics", ge=1, le=65535)
    pool_size: int = Field(8, description="most database connections of the API process", ge=1)
    log_format: Literal["json", "console"] = "json"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"


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
