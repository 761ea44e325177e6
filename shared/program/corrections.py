"""Corrections by people, as a program file bounds them."""

from __future__ import annotations

from pydantic import Field

from shared.program.base import Section
from shared.program.fields import Flag, Ids, MaybeCount


class Corrections(Section):
    """Points given or taken by hand."""

    limit: MaybeCount = Field(
        default=None, description="above this many points a second person approves; without: none"
    )
    reasons: Ids = Field(default=(), description="the reason codes to choose from; without: any")
    overdraw: Flag = Field(
        default=False, description="a debit may take more than there is: the rest is a deficit"
    )
