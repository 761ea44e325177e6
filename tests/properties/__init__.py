"""Properties: what must hold for whatever hypothesis comes up with."""

from __future__ import annotations

from hypothesis import settings

# A busy machine is no failure; a failing example prints how to repeat it.
settings.register_profile("treue", deadline=None, print_blob=True)
settings.load_profile("treue")
