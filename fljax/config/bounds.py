"""The kinds of numbers a configuration holds, and how large they may be."""

from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError


def _at_most(most: int, because: str) -> AfterValidator:
    def check(value: float) -> float:
        if value > most:
            raise PydanticCustomError("too_large", f"at most {most:,} ({because})")
        return value

    return AfterValidator(check)


# Bounds of the 32-bit integers these become.
Count = Annotated[int, Field(gt=0, lt=2**31)]
Whole = Annotated[int, Field(ge=0, lt=2**31)]
# Bounds of what a compiled program holds at once.
Steps = Annotated[Count, _at_most(100_000, "the batches of all local steps are drawn before the first")]
Epochs = Annotated[
    float,
    Field(gt=0, allow_inf_nan=False),
    _at_most(100_000, "the orders of all epochs are drawn before the first step"),
]
# Rounds in one program.
LONGEST_CHUNK = 100_000
Chunk = Annotated[
    Count, _at_most(LONGEST_CHUNK, "what happens in all rounds of a program is kept until its end")
]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
