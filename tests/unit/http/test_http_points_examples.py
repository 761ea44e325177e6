"""The examples in the points API's documentation are answers it could give."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from services.points.api.schemas import Balance, Entry, Explanation, Lot


@pytest.mark.parametrize("schema", [Balance, Entry, Explanation, Lot])
def test_an_example_is_a_possible_answer(schema: type[BaseModel]) -> None:
    extra = schema.model_config["json_schema_extra"]
    assert isinstance(extra, dict)
    examples = extra["examples"]
    assert isinstance(examples, list)
    for example in examples:
        assert schema.model_validate(example).model_dump(mode="json") == example
