"""``python -m services.tiers worker|api|migrate|check``: one image, the role is chosen by command."""

from __future__ import annotations

import sys

from shared.service import main

if __name__ == "__main__":
    sys.exit(main("services.tiers.wiring"))
