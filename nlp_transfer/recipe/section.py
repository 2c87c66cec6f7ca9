"""What every section of a recipe has in common: strictness, and shorthands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema, core_schema

Rate = Annotated[float, Field(gt=0, le=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """Base of all sections: unknown keys are errors, numbers are not made from strings, and back.

    Attributes:
        shorthand: The key that a plain string stands for: ``model: x`` is ``model: {id: x}``.
    """

    # Built when first used: importing the package stays quick.
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, defer_build=True)
    shorthand: ClassVar[str | None] = None

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, value: Any) -> Any:
        return {cls.shorthand: value} if cls.shorthand and isinstance(value, str) else value

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Name the shorthand in the JSON schema, from which messages and overrides take what they know."""
        schema = handler(core)
        if cls.shorthand:
            handler.resolve_ref_schema(schema)["x-shorthand"] = cls.shorthand
        return schema


@dataclass(frozen=True)
class SomeOf:
    """Marks a mapping that may hold any of a section's keys; those left out stay left out.

    Args:
        section: The section whose keys, types and ranges apply.
    """

    section: type[Section]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validate as the section, then keep the keys that were given."""
        return core_schema.no_info_after_validator_function(
            lambda value: value.model_dump(exclude_unset=True),
            handler.generate_schema(self.section),
            serialization=core_schema.plain_serializer_function_ser_schema(dict),
        )
