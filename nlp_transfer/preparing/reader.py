"""Reads the files of the ``data`` section, with labels mapped, and notes what was dropped, repaired or held out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..data.canonical import Kind, column_names
from ..data.corpus import Corpus, load_corpus
from ..data.label_map import LabelMap, map_labels, unseen_names
from ..data.load import Split, load_split
from ..data.split import stratified_split
from ..errors import DataError, Problem
from ..recipe.schema import DataFile, Recipe, SourceData
from ..recipe.shipped import resolve_path
from ..tasks.sentiment import polarised
from .splits import Source

HELD_OUT = 0
"""Seed of the rows that are held out: the same in every run, so that runs can be compared and built on each other."""


@dataclass(frozen=True)
class Reader:
    """Reads what a recipe names.

    Args:
        recipe: The recipe.
        given: Data sets that stand in for files, by key path below ``data``.
        notes: Takes what the user should know.
    """

    recipe: Recipe
    given: dict[str, Any]
    notes: list[str]

    def read(self, file: DataFile | None, name: str, kind: Kind) -> Split | None:
        """Read one split of any kind."""
        source = self.given.get(name)
        if source is None and file is None:
            return None
        data = self.recipe.data
        options: dict[str, Any] = {"columns": data.columns}
        if source is None:
            assert file is not None
            source = resolve_path(data, file.path)
            options = {
                "columns": data.columns if file.columns is None else file.columns,
                "format": file.format,
                "hub_split": file.split,
                "config": file.config,
                "revision": file.revision,
            }
        split = load_split(source, name=name, kind=kind, repair_tags=data.repair_tags, **options)
        if split.dropped_labels:
            self.notes.append(f"{name}: the file holds labels; they were dropped and are not used.")
        if split.skipped_blank:
            self.notes.append(f"{name}: {split.skipped_blank} blank lines were skipped.")
        if split.repaired:
            self.notes.append(f"{name}: {split.repaired} tags were repaired (data.repair_tags).")
        return split

    def source(self, domain: SourceData, role: str, kind: Kind) -> tuple[Split, Split | None]:
        """Read the training rows and, where there is such a file, the dev rows of a source domain."""
        read = self.labelled(role, {"train": domain.train, "dev": domain.dev}, domain.label_map, kind)
        return read[f"{role}.train"], read.get(f"{role}.dev")

    def with_dev(self, role: str, name: str, train: Split, dev: Split | None, kind: Kind) -> Source:
        """Return a source domain, with dev rows held out of its training rows where it has no others."""
        if dev is None:
            train, dev = stratified_split(train, self.recipe.data.dev_share, HELD_OUT, kind)
            self.notes.append(f"{role}.dev: {len(dev.rows)} rows held out of {role}.train (data.dev_share).")
        return Source(role, name, train, dev)

    def corpus(self, file: DataFile, name: str) -> Corpus:
        """Open further unlabelled text, which is checked now and read when its stage begins."""
        data = self.recipe.data
        corpus = load_corpus(
            self.given.get(name, resolve_path(data, file.path)),
            name=name,
            column=column_names(data.columns if file.columns is None else file.columns)["text"],
            format=file.format,
            hub_split=file.split,
            config=file.config,
            revision=file.revision,
        )
        self.notes.append(f"{name}: {len(corpus)} texts, which are read again when they are used.")
        return corpus

    def labelled(
        self, domain: str, files: dict[str, DataFile | None], names: LabelMap | None, kind: Kind
    ) -> dict[str, Split]:
        """Read the labelled splits of a domain, with its labels mapped, and stars to polarities.

        Args:
            domain: Key path of the domain: source (of several source.0 and so on) or target.
            files: By the split's key.
            names: The domain's ``label_map``.
            kind: What the rows hold.

        Raises:
            DataError: Bad rows; or the map names a label that no row has. Few target rows need not have every label,
                so without ``target.test`` this is only told.
        """
        read = {
            f"{domain}.{key}": split
            for key, file in files.items()
            if (split := self.read(file, f"{domain}.{key}", kind)) is not None
        }
        where = f"data.{domain}.label_map"
        unseen = [] if names is None else unseen_names(names, list(read.values()), where)
        if domain == "target" and "target.test" not in read:
            self.notes.extend(map(str, unseen))
        elif unseen:
            raise DataError(unseen)
        return {name: self._mapped(split, names, where) for name, split in read.items()}

    def _mapped(self, split: Split, names: LabelMap | None, where: str) -> Split:
        steps = ((map_labels, names, where), (polarised, self.recipe.task.polarity, "task.polarity"))
        for rename, mapping, path in steps:
            if mapping is None:
                continue
            mapped = rename(split, mapping)
            if not len(mapped.split):
                text = f"{path} maps the labels of all rows of {split.name} to null."
                raise DataError([Problem(text, split.origin)])
            if mapped.dropped:
                self.notes.append(f"{split.name}: {mapped.told} dropped, as {path} maps their label to null.")
            split = mapped.split
        return split
