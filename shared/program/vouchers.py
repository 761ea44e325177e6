"""Voucher definitions and rewards as a program file describes them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from shared.program.base import Section
from shared.program.fields import (
    Count,
    Flag,
    Id,
    Ids,
    MaybeCount,
    MaybeId,
    MaybePercent,
    MaybePositive,
    MaybeSomeDays,
    MaybeStock,
    MaybeText,
    MaybeWritten,
    Text,
    WrittenSet,
    choice,
)
from shared.program.values import as_list

VoucherKind = Literal["percent", "amount", "gift_card", "free_product", "free_shipping"]


class Scope(Section):
    """Articles, by number or by category."""

    skus: WrittenSet = Field(default=frozenset(), description="article numbers")
    categories: WrittenSet = Field(default=frozenset(), description="categories of articles")


class VoucherDefinition(Section):
    """What a voucher is worth, for how long and for which carts."""

    kind: Annotated[VoucherKind, choice(VoucherKind)] = Field(description="what it gives")
    name: MaybeText = Field(default=None, description="what customers read")
    percent: MaybePercent = Field(default=None, description="only for `percent`, and needed there")
    amount: MaybePositive = Field(
        default=None,
        description="money; only for `amount` and `gift_card`, and needed there",
    )
    sku: MaybeWritten = Field(
        default=None, description="the article; only for `free_product`, and needed there"
    )
    valid_for: MaybeSomeDays = Field(
        default=None,
        description="how long from the day of its cause, through the end of the last day;"
        " without it: for ever",
    )
    min_order: MaybePositive = Field(default=None, description="least value of the cart")
    max_discount: MaybePositive = Field(
        default=None, description="most it takes off; only for `percent` and `free_shipping`"
    )
    include: Scope = Field(default=Scope(), description="only these articles; nothing named: all")
    exclude: Scope = Field(default=Scope(), description="not these articles")
    combinable: Flag = Field(default=False, description="together with other vouchers in one cart")
    max_redemptions: Count = Field(default=1, description="how often it can be used")


class Birthday(Section):
    """A voucher on each birthday."""

    voucher: Id = Field(description="one of `vouchers`")
    tiers: Ids = Field(default=(), description="only for customers of these levels")


class Reward(Section):
    """Something customers get for points."""

    id: Id = Field(description="how events and URLs call it")
    name: Text = Field(description="what customers read")
    cost: Count = Field(description="points")
    voucher: Id = Field(description="one of `vouchers`: what they get")
    min_tier: MaybeId = Field(default=None, description="from this level on")
    stock: MaybeStock = Field(default=None, description="how many there are; null: no bound")
    per_customer: MaybeCount = Field(default=None, description="how many each; null: no bound")


class Rewards(Section):
    """What points can be exchanged for, and what is given away."""

    birthday: Birthday | None = Field(default=None, description="a voucher on each birthday")
    catalog: Annotated[tuple[Reward, ...], BeforeValidator(as_list)] = Field(
        default=(), description="what customers get for points"
    )
