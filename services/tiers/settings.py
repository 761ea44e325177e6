"""Settings of the tiers service, from the environment with the prefix ``TREUE_TIERS_``."""

from __future__ import annotations

from pydantic_settings import SettingsConfigDict

from shared.settings import ServiceSettings


class Settings(ServiceSettings):
    """Nothing beyond what every service has."""

    model_config = SettingsConfigDict(env_prefix="TREUE_TIERS_", frozen=True, extra="ignore")
