"""Settings of the rewards service, from the environment with the prefix ``TREUE_REWARDS_``."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from services.rewards.domain.codes import Keyring, WeakSecretError
from shared.errors import UsageError
from shared.settings import ServiceSettings


class Settings(ServiceSettings):
    """What every service has, and the secret that the vouchers' codes are made with."""

    model_config = SettingsConfigDict(env_prefix="TREUE_REWARDS_", frozen=True, extra="ignore")

    secret_file: Path | None = Field(
        None, description="secret of the voucher codes, 32 random bytes in hex"
    )
    secret: SecretStr | None = Field(None, description="the same as text, in place of the file")

    def keyring(self) -> Keyring:
        """Read the secrets. Raises UsageError if they are missing or could be guessed."""
        variable = f"TREUE_REWARDS_SECRET_FILE: {self.secret_file}"
        if self.secret_file is None:
            variable = "TREUE_REWARDS_SECRET (or _SECRET_FILE)"
        try:
            if self.secret_file is not None:
                return Keyring.parse(self.secret_file.read_text(encoding="ascii"))
            return Keyring.parse(self.secret.get_secret_value() if self.secret else "")
        except OSError as error:
            raise UsageError(f"{variable} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise UsageError(f"{variable} is not a text of hexadecimal lines") from None
        except WeakSecretError as error:
            raise UsageError(f"{variable} is no good secret: {error}") from None
