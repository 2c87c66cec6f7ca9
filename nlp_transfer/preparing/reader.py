"""Reads the files of the ``data`` section, with labels mapped, and notes what was dropped, repaired or held out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..data.canonical import Kind, column_names
from ..data.corpus import Corpus, load_corpus
from ..data.label_map import LabelMap, map_labels, unseen_names
from ..data.load import HUB, Split, load_split
from ..data.seen import Seen, asked, look, opened, probe
from ..data.split import stratified_split
from ..data.streamed import Stream
from ..errors import DataError, Problem
from ..processes import agree, place
from ..recipe.pretraining import CorpusFile
from ..recipe.schema import DataFile, Recipe, SourceData
from ..recipe.shipped import resolve_path
from ..tasks.sentiment import polarised
from .splits import Source

HELD_OUT = 0
"""Seed of the rows that are held out: the same in every run, so that runs can be compared and built on each other."""
PROBED = 1000
"""Rows of a streamed corpus that a mere check of the recipe reads."""


@dataclass(frozen=True)
class Reader:
    """Reads what a recipe names.

    Args:
        recipe: The recipe.
        given: Data sets that stand in for files, by key path below ``data``.
        notes: Takes what the user should know.
        seen: What is known of streamed corpora by key path; takes what is found of others.
        probes: Look at the first rows of streamed corpora only.
    """

    recipe: Recipe
    given: dict[str, Any]
    notes: list[str]
    seen: dict[str, Seen] = field(default_factory=dict)
    probes: bool = False

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

    def corpus(self, file: CorpusFile, name: str) -> Corpus:
        """Open further unlabelled text, which is checked now and read when its stage begins."""
        data = self.recipe.data
        column = column_names(data.columns if file.columns is None else file.columns)["text"]
        if file.streaming and name not in self.given:
            hub_id = file.path.removeprefix(HUB)
            return self._streamed(Stream(name, hub_id, file.split, file.config, file.revision, column, file.rows))
        corpus = load_corpus(
            self.given.get(name, resolve_path(data, file.path)),
            name=name,
            column=column,
            format=file.format,
            hub_split=file.split,
            config=file.config,
            revision=file.revision,
            rows=file.rows,
        )
        self.notes.append(f"{name}: {len(corpus)} texts, which are read again when they are used.")
        return corpus

    def _streamed(self, stream: Stream) -> Corpus:
        """Open a corpus that comes over the network: as the run has seen it before, or as one process sees it now."""
        if self.probes:
            commit, rows = probe(stream, PROBED)
            self.notes.append(
                f"{stream.name}: the first {rows} rows of {stream.origin} at commit {commit[:12]} can be read. The "
                "rest was not looked at: it is streamed, and a run reads all of it twice, to check it and to tokenise "
                "it."
            )
            return Corpus(stream.name, stream.origin, lambda: stream.read(commit, PROBED), rows)
        seen = self.seen.get(stream.name)
        if seen is None or seen.asked != asked(stream):
            seen = agree(look(stream) if place()[0] == 0 else None)
        self.notes.append(
            f"{stream.name}: {seen.rows} texts of {stream.origin} at commit {seen.commit[:12]}, which are streamed "
            "again when they are used."
        )
        self.seen[stream.name] = seen
        return opened(stream, seen)

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
