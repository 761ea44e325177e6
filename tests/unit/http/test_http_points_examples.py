"""The examples in the points API's documentation are answers it could give."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from services.points.api.correction_schemas import (
    AdjustmentBody,
    Corrected,
    Correction,
    DecisionBody,
    ExtensionBody,
    ReversalBody,
)
from services.points.api.schemas import Balance, Entry, Explanation, Lot


@pytest.mark.parametrize("schema", [Balance, Entry, Explanation, Lot])
def test_an_example_is_a_possible_answer(schema: type[BaseModel]) -> None:
    extra = schema.model_config["json_schema_extra"]
    assert isinstance(extra, dict)
    examples = extra["examples"]
    assert isinstance(examples, list)
    for example in examples:
        assert schema.model_validate(example).model_dump(mode="json") == example


@pytest.mark.parametrize("schema", [Corrected, Correction])
def test_an_example_of_a_correction_is_a_possible_answer(schema: type[BaseModel]) -> None:
    test_an_example_is_a_possible_answer(schema)


@pytest.mark.parametrize("schema", [AdjustmentBody, DecisionBody, ExtensionBody, ReversalBody])
def test_an_example_of_a_body_is_taken(schema: type[BaseModel]) -> None:
    extra = schema.model_config["json_schema_extra"]
    assert isinstance(extra, dict)
    examples = extra["examples"]
    assert isinstance(examples, list)
    for example in examples:
        assert schema.model_validate(example).model_dump(mode="json") == example
