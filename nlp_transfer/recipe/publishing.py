"""What a recipe says of the publication of its model; nothing here changes what is trained."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .section import Section

License = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9][a-z0-9.+-]*$",
        description="an identifier of a licence in small letters, such as apache-2.0, mit, cc-by-4.0 or other",
    ),
]
Language = Annotated[
    str,
    Field(
        pattern=r"^([a-z]{2,3}(-[A-Za-z0-9]+)*|multilingual|code)$",
        description="an ISO 639 code such as en, de or nb; or multilingual",
    ),
]
HubId = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$",
        description="a hub id owner/name of letters, digits, '.', '_' and '-'",
    ),
]
Tag = Annotated[str, Field(min_length=1)]


class CardSpec(Section):
    """What the model card tells and no run can know.

    Attributes:
        license: Licence of the model, by the hub's identifier.
        language: Languages of the texts.
        tags: Further tags.
        datasets: Hub ids of the data sets that the files come from; those that are read from the hub are named anyway.
    """

    license: License | None = None
    language: Language | Annotated[list[Language], Field(min_length=1)] | None = None
    tags: list[Tag] = Field(default_factory=list)
    datasets: list[HubId] = Field(default_factory=list)

    @property
    def languages(self) -> list[str]:
        """The languages as a list."""
        return [] if self.language is None else [self.language] if isinstance(self.language, str) else self.language


class HubSpec(Section):
    """Where the model is pushed at the end of the run.

    Attributes:
        repo: Hub id ``owner/name``, or a URL of any fsspec file system (``file://…``, ``s3://…``).
        public: Everyone may read a new repository; otherwise it is private.
        merged: Push an adapter merged into its base.
        base: Hub id of the base model, for an adapter that was trained on a local folder.
        replace: Replace the content of a repository that holds something else.
        report: Push report.html too; it quotes texts of the data.
    """

    shorthand = "repo"

    repo: Annotated[
        str,
        Field(
            pattern=r"^([a-z][a-z0-9+]*://.+|[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)$",
            description="a hub id owner/name, or a URL such as file:///models/mine",
        ),
    ]
    public: bool = False
    merged: bool = False
    base: HubId | None = None
    replace: bool = False
    report: bool = True
