"""The source catalogue: one YAML file per source, checked key by key, errors with the line number.

    load_source("configs/sources/photos.yaml") -> Source

This file knows what a source may say. Reading the rows of a source is the jobs' work.
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Iterable
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import yaml

from licet.errors import ConfigError
from licet.licences import NO_ASSERTION, LicenceError, normalise

Kind = Literal["images", "text", "code", "captions"]
ListFormat = Literal["csv", "tsv", "json", "jsonl", "parquet", "delta", "txt"]
PersonalData = Literal["none", "incidental", "present", "sensitive", "unknown"]

HASHES = ("expected_hash", "md5", "sha256", "sha512")
"""What a list may say of the bytes; of several, the last counts. `expected_hash` says the algorithm by `sha256:` before
the digits, or by their number."""

COLUMNS = (
    "url", "caption", "licence", "licence_url", "creator", "attribution", "source_page", "language", *HASHES, "boxes",
)  # fmt: skip
"""What a source's `columns` may map to columns of its list: fields of a SourceRecord, and the hashes."""

ALL_COLUMNS = "*"
"""`extra_columns: all`, as a Source holds it."""

OPT_OUT_PROTOCOLS = ("robots.txt", "ai.txt", "tdmrep", "x-robots-tag", "aipref", "iptc-plus", "c2pa")
"""What a source's `opt_out_protocols` may name. What it names binds; the others are not asked."""

_ID = re.compile(r"^[a-z0-9][a-z0-9._-]{0,63}$")
_LANGUAGE = re.compile(r"^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$")


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why the licence is believed."""

    url: str = ""
    text_sha256: str = ""
    """SHA-256 of the licence text that was read."""
    checked_by: str = ""
    checked_on: str = ""
    """ISO date."""


@dataclass(frozen=True, slots=True)
class Custodian:
    """Who looks after the source."""

    name: str
    type: str = ""
    contact: str = ""


@dataclass(frozen=True, slots=True)
class Provenance:
    """How, when and from where the source was collected."""

    how: str = ""
    when: str = ""
    where: str = ""


@dataclass(frozen=True, slots=True)
class ProcessedFrom:
    """The primary source that this one was made from, and its terms."""

    source: str
    licence: str = NO_ASSERTION


@dataclass(frozen=True, slots=True)
class Note:
    """A known bias, gap or quality note."""

    author: str
    date: str
    text: str


@dataclass(frozen=True, slots=True)
class Source:
    """What may be used, and on what terms."""

    id: str
    title: str
    kind: Kind
    location: str
    """Any fsspec URL or glob; a relative path starts at the YAML file's folder."""
    format: ListFormat
    columns: dict[str, str] = field(default_factory=dict)
    """SourceRecord field -> column of the list. `url` is looked for under its own name when it is not given."""
    extra_columns: list[str] = field(default_factory=list)
    """Further columns of the list that its rows carry along, with their types (`licet.extras`); `all` for every column
    that `columns` does not map."""
    languages: list[str] = field(default_factory=list)
    """BCP-47."""
    licence: str = NO_ASSERTION
    """For rows that bring none of their own."""
    licence_evidence: Evidence = field(default_factory=Evidence)
    creator: str = ""
    credit_template: str = "{creator} ({licence})"
    """Credit line of a row that brings none; may use {creator}, {licence}, {source_page}, {title}."""
    custodian: Custodian = field(default_factory=lambda: Custodian(name=""))
    provenance: Provenance = field(default_factory=Provenance)
    processed_from: list[ProcessedFrom] = field(default_factory=list)
    opt_out_protocols: list[str] = field(default_factory=lambda: list(OPT_OUT_PROTOCOLS))
    """All of them, unless the source says less."""
    personal_data: PersonalData = "unknown"
    notes: list[Note] = field(default_factory=list)
    weight: float = 1.0


def load_sources(paths: Iterable[str | Path]) -> list[Source]:
    """Load several sources; two with one id are refused. Raises `ConfigError`."""
    loaded: dict[str, tuple[str, Source]] = {}
    for path in paths:
        source = load_source(path)
        if source.id in loaded:
            raise ConfigError(str(path), 1, "an id of its own", f"{source.id!r}, which {loaded[source.id][0]} has too")
        loaded[source.id] = (str(path), source)
    return [source for _, source in loaded.values()]


def load_source(path: str | Path) -> Source:
    """Load and check one source. Raises `ConfigError` with the file, the line, what was expected and what was found."""
    file = str(path)
    try:
        root = yaml.compose(Path(path).read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise ConfigError(file, None, "a source file", error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        raise ConfigError(file, None, "UTF-8 text", str(error)) from error
    except yaml.YAMLError as error:
        raise _not_yaml(file, error) from error
    source: Source = _Reader(file).record(root, Source)
    return _with_location(source, Path(path).parent)


def _not_yaml(file: str, error: yaml.YAMLError) -> ConfigError:
    mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
    found = (error.problem if isinstance(error, yaml.MarkedYAMLError) else None) or str(error).split("\n")[0]
    return ConfigError(file, mark.line + 1 if mark else None, "YAML", found)


def _with_location(source: Source, folder: Path) -> Source:
    if "://" in source.location or Path(source.location).is_absolute():
        return source
    values = {f.name: getattr(source, f.name) for f in fields(source)}
    return Source(**{**values, "location": str((folder / source.location).resolve())})


class _Reader:
    """Walks YAML nodes, which know their lines, along the fields of a dataclass."""

    def __init__(self, file: str) -> None:
        self.file = file

    def fail(self, node: yaml.Node | None, expected: str, found: str, remedy: str = "") -> ConfigError:
        return ConfigError(self.file, node.start_mark.line + 1 if node else 1, expected, found, remedy)

    def record(self, node: yaml.Node | None, cls: type) -> Any:
        if not isinstance(node, yaml.MappingNode):
            raise self.fail(node, f"the fields of {cls.__name__}", "nothing" if node is None else _show(node))
        hints = get_type_hints(cls)
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            name = self.key(key_node)
            if name not in hints:
                raise self.fail(key_node, f"one of {', '.join(hints)}", f"{name!r}")
            if name in values:
                raise self.fail(key_node, f"{name!r} once", "it twice")
            values[name] = self.value(value_node, hints[name], name)
            self.check(value_node, name, values[name])
        for f in fields(cls):
            if f.name not in values and f.default is MISSING and f.default_factory is MISSING:
                raise self.fail(node, f"{f.name!r} in {cls.__name__}", "none")
        return cls(**values)

    def value(self, node: yaml.Node, hint: Any, name: str) -> Any:
        origin, arguments = get_origin(hint), get_args(hint)
        if name == "extra_columns" and origin is list and isinstance(node, yaml.ScalarNode):
            if node.value != "all":
                raise self.fail(node, f"a list of columns, or all, for {name!r}", _show(node))
            return [ALL_COLUMNS]
        if origin is list:
            if not isinstance(node, yaml.SequenceNode):
                raise self.fail(node, f"a list for {name!r}", _show(node))
            return [self.value(item, arguments[0], name) for item in node.value]
        if origin is dict:
            if not isinstance(node, yaml.MappingNode):
                raise self.fail(node, f"a mapping for {name!r}", _show(node))
            return {self.key(k): self.value(v, arguments[1], f"{name}.{self.key(k)}") for k, v in node.value}
        if isinstance(hint, type) and hint not in (str, float):
            return self.record(node, hint)
        if not isinstance(node, yaml.ScalarNode):
            raise self.fail(node, f"one value for {name!r}", _show(node))
        if origin is Literal:
            if node.value not in arguments:
                raise self.fail(node, f"{name!r} to be one of {', '.join(arguments)}", repr(node.value))
            return node.value
        return self.scalar(node, hint, name)

    def key(self, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise self.fail(node, "a name", _show(node))
        return str(node.value)

    def scalar(self, node: yaml.ScalarNode, hint: type, name: str) -> str | float:
        try:
            loaded = yaml.SafeLoader("").construct_object(node)
        except yaml.YAMLError as error:
            raise self.fail(node, f"a plain value for {name!r}", f"the tag {node.tag!r}") from error
        except ValueError:  # a date that no calendar has: it is text, as a real date is
            return str(node.value)
        if hint is float:
            if isinstance(loaded, bool) or not isinstance(loaded, (int, float)):
                raise self.fail(node, f"a number for {name!r}", repr(node.value))
            return float(loaded)
        if not isinstance(loaded, (str, datetime.date)):  # YAML reads 2026-11-21 as a date: the text is what we keep
            raise self.fail(node, f"text for {name!r}", repr(node.value), "Put it in quotes.")
        return str(node.value)

    def check(self, node: yaml.Node, name: str, value: Any) -> None:
        """What the type alone does not say."""
        if name == "id" and not _ID.match(value):
            raise self.fail(node, "an id of small letters, digits, '.', '_' and '-' (64 at most)", repr(value))
        if name == "licence":
            try:
                normalise(value)
            except LicenceError as error:
                raise self.fail(node, "an SPDX licence expression", repr(value), str(error)) from error
        if name == "languages":
            for item in value:
                if not _LANGUAGE.match(item):
                    raise self.fail(node, "BCP-47 language tags", repr(item))
        if name == "columns":
            for key in value:
                if key not in COLUMNS:
                    raise self.fail(node, f"columns among {', '.join(COLUMNS)}", repr(key))
        if name == "opt_out_protocols":
            for item in value:
                if item not in OPT_OUT_PROTOCOLS:
                    raise self.fail(node, f"protocols among {', '.join(OPT_OUT_PROTOCOLS)}", repr(item))
        if name == "credit_template":
            try:
                value.format(creator="", licence="", source_page="", title="")
            except (KeyError, IndexError, ValueError) as error:
                raise self.fail(
                    node, "a template of {creator}, {licence}, {source_page}, {title}", repr(value)
                ) from error
        if name == "weight" and not 0 < value < math.inf:
            raise self.fail(node, "a weight above 0", repr(value))


def _show(node: yaml.Node) -> str:
    kinds = {yaml.ScalarNode: "one value", yaml.SequenceNode: "a list", yaml.MappingNode: "a mapping"}
    return kinds[type(node)] + (f" ({node.value!r})" if isinstance(node, yaml.ScalarNode) else "")
