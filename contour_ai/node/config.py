"""The node's configuration, `node.yaml`: every key typed and explained, unknown ones refused."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from contour_ai.errors import ConfigError
from contour_ai.settings import from_mapping
from contour_ai.yaml_files import BACKSLASH, read_yaml

AE_TITLE = re.compile(r"[^\\\x00-\x1f\x7f-\uffff]{1,16}")
"""PS3.5 VR AE: at most 16 characters of the default repertoire, no backslash, not only spaces."""

GLOB_CHARACTERS = "*?["


@dataclass(frozen=True, kw_only=True)
class Tls:
    """Certificates in PEM form; paths are relative to the configuration file."""

    certificate: str
    """This node's certificate, with its chain."""
    key: str
    """Its private key."""
    ca: str
    """Certificates of the authorities whose peers are trusted. Every peer has to show a certificate of one of them."""


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who may send."""

    ae_title: str
    """Calling AE title, exactly."""
    host: str | None = None
    """IP address from which it calls; null for any."""


@dataclass(frozen=True, kw_only=True)
class When:
    """Which series a rule takes: every key that is given must fit. Texts are globs without regard to case."""

    called_ae_title: str | None = None
    """AE title that was called; the node answers to every title that stands here without * ? [."""
    calling_ae_title: str | None = None
    """AE title of the sender; `FOLDER` for watched folders."""
    station_name: str | None = None
    """StationName."""
    manufacturer: str | None = None
    """Manufacturer."""
    study_description: str | None = None
    """StudyDescription."""
    series_description: str | None = None
    """SeriesDescription, such as '*H&N*'."""
    body_part: str | None = None
    """BodyPartExamined."""
    protocol: str | None = None
    """ProtocolName."""
    kernel: str | None = None
    """ConvolutionKernel."""
    image_type: str | None = None
    """ImageType, its values joined by a backslash, such as 'ORIGINAL*'."""
    slice_thickness_mm: tuple[float, float] | None = None
    """Smallest and largest SliceThickness."""
    slices: tuple[int, int] | None = None
    """Smallest and largest number of slices."""
    contrast: bool | None = None
    """Whether ContrastBolusAgent is given."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What becomes of a series; the first rule that fits is taken."""

    name: str = ""
    """Name on the page and in the log; empty: the rule's number."""
    when: When = field(default_factory=When)
    """Which series it takes; without it, every one."""
    several: Literal["all", "newest", "thinnest", "ask"] = "all"
    """Where several series of a study fit: contour all, only the newest, only that of the thinnest slices, or ask."""
    model: str = ""
    """Name or folder of the model; empty for the default one."""
    require: Literal["commissioned"] | None = None
    """commissioned: contour only with a model that is commissioned on this machine as it is now (`contour-ai commission
    --signed-by`); otherwise the job is set aside and nothing is sent. null for any model."""
    rois: tuple[str, ...] | None = None
    """Only these ROIs of the model; null for all."""
    profile: str = "generic"
    """What the importer accepts: generic, eclipse, research, tg263, or a .yaml file."""
    derive: str | None = None
    """Recipe of derived structures (see `contour-ai derive`); null for none."""
    template: str | None = None
    """Structure template that names, colours and orders the output; null for none."""
    send_to: tuple[str, ...] = ()
    """Names of destinations; none: the result stays on the page."""
    hold: bool | None = None
    """Whether results wait for a confirmation; null for as the node's `hold` says."""


@dataclass(frozen=True, kw_only=True)
class Destination:
    """Where results are sent."""

    ae_title: str
    """Its AE title."""
    host: str
    """Its address."""
    port: int = 104
    """Its port."""
    tls: Tls | None = None
    """Certificates for this connection; null for none."""
    commitment: bool = False
    """Whether to ask for storage commitment after sending; a result then counts as sent once it is committed."""
    hold: bool = False
    """Whether results for it wait for a confirmation."""


@dataclass(frozen=True, kw_only=True)
class Retention:
    """How long files are kept. Nothing is deleted before it was sent."""

    images_days: float = 7
    """Days for received images, after their last result."""
    results_days: float = 365
    """Days for results, ratings and approved contours."""
    free_gb: float = 5
    """Free disk space below which the node warns; below a tenth of it, it accepts no images."""


@dataclass(frozen=True, kw_only=True)
class WatchedFolder:
    """A folder in which other systems lay exports."""

    folder: str
    """The folder; relative to the configuration file."""
    pattern: str = "**/*.dcm"
    """Which files are looked at."""
    settle_s: float = 5
    """Seconds for which a file must not have changed."""
    delete: bool = False
    """Whether files are removed once they are stored; otherwise they are never touched."""


@dataclass(frozen=True, kw_only=True)
class Web:
    """The page."""

    host: str = "127.0.0.1"
    """Address on which it is served; another than this machine's own needs users."""
    port: int = 8104
    """Its port; 0 for no page."""
    users: dict[str, str] = field(default_factory=dict)
    """User name: hashed password, as `contour-ai serve --hash-password` prints it. Without users nobody logs in."""


@dataclass(frozen=True, kw_only=True)
class Smtp:
    """Mail for alerts."""

    host: str
    """Mail server."""
    sender: str
    """Address of the sender."""
    to: tuple[str, ...]
    """Addresses of the recipients."""
    port: int = 25
    """Its port."""


@dataclass(frozen=True, kw_only=True)
class Alerts:
    """Who is told of failures, a full disk and drift. Patients are named by the node's own numbers only."""

    command: tuple[str, ...] | None = None
    """Program and arguments to run; the message comes on standard input."""
    mail: Smtp | None = None
    """Mail by SMTP."""
    repeat_h: float = 6
    """Hours before the same alert is given again."""


@dataclass(frozen=True, kw_only=True)
class NodeConfig:
    """Everything that the node can be told."""

    ae_title: str = "CONTOURAI"
    """AE title of this node; a caller that calls another one is rejected."""
    host: str = "127.0.0.1"
    """Address on which images are received; only this machine unless changed."""
    port: int = 11112
    """Its port; 0 lets the system choose."""
    storage: str = "contour-ai-node"
    """Folder of images, results, database and audit log; relative to the configuration file."""
    callers: tuple[Caller, ...] = ()
    """Who may send; everyone else is rejected."""
    quiet_s: float = 10
    """Seconds without a new slice after which a series without a gap is complete."""
    rules: tuple[Rule, ...] = ()
    """What becomes of a series; without a rule that fits, it is kept and listed, not contoured."""
    destinations: dict[str, Destination] = field(default_factory=dict)
    """Where results are sent, by name."""
    devices: tuple[str, ...] = ("auto",)
    """One worker for each: cpu, cuda, cuda:N, or auto: the GPU, else two workers on the processor."""
    keep: Retention = field(default_factory=Retention)
    """How long files are kept."""
    watch: tuple[WatchedFolder, ...] = ()
    """Folders in which other systems lay exports."""
    hold: bool = False
    """Whether results wait for a confirmation on the page before they are sent."""
    tls: Tls | None = None
    """Certificates for receiving; null for none."""
    web: Web = field(default_factory=Web)
    """The page."""
    alerts: Alerts = field(default_factory=Alerts)
    """Who is told of failures."""
    max_associations: int = 20
    """Connections at once."""
    job_limit_min: float = 60
    """Minutes after which a worker that has not finished a patient is replaced."""

    def __post_init__(self) -> None:
        for title in (
            self.ae_title,
            *(c.ae_title for c in self.callers),
            *(d.ae_title for d in self.destinations.values()),
        ):
            if not AE_TITLE.fullmatch(title) or not title.strip():
                raise ConfigError(
                    "This is no AE title.", found=title, expected="1 to 16 characters, no backslash"
                )
        for number, rule in enumerate(self.rules, start=1):
            unknown = [name for name in rule.send_to if name not in self.destinations]
            if unknown:
                raise ConfigError(
                    f"Rule {number} sends to a destination that is not there.",
                    found=", ".join(unknown),
                    expected=", ".join(self.destinations) or "one under `destinations`",
                )
        names = [rule_name(n, rule) for n, rule in enumerate(self.rules, start=1)]
        if len(set(names)) < len(names):
            raise ConfigError("Two rules have the same name.", found=", ".join(names))
        if self.quiet_s <= 0:
            raise ConfigError("quiet_s must be positive.", found=self.quiet_s)
        if not self.devices:
            raise ConfigError("The node needs a device.", expected="devices: [auto]")
        loopback = self.web.host in ("127.0.0.1", "::1", "localhost")
        if self.web.port and not loopback and not self.web.users:
            raise ConfigError(
                "A page that other machines can reach needs users.",
                found=f"web.host {self.web.host} without web.users",
                fix="add users with `contour-ai serve --hash-password`, or set web.host to 127.0.0.1",
            )

    @property
    def called_ae_titles(self) -> tuple[str, ...]:
        """The titles to which the node answers: its own and those that rules name."""
        named = [r.when.called_ae_title for r in self.rules]
        plain = [t for t in named if t and not any(c in t for c in GLOB_CHARACTERS)]
        return tuple(dict.fromkeys((self.ae_title, *plain)))


def rule_name(number: int, rule: Rule) -> str:
    """The rule's name, or its number from 1."""
    return rule.name or f"rule {number}"


def load_node_config(path: Path) -> NodeConfig:
    """Reads `node.yaml`; relative paths in it become absolute.

    Raises:
        ConfigError: it cannot be read, has unknown keys or values that do not fit.
    """
    path = Path(path)
    content = read_yaml(
        path, "The node's configuration", fix="write one with `contour-ai serve --print-config`"
    )
    config = from_mapping(NodeConfig, {} if content is None else content, where=path)
    return _resolved(config, path.resolve())


def _resolved(config: NodeConfig, source: Path) -> NodeConfig:
    from dataclasses import replace

    base = source.parent

    def at(text: str) -> str:
        if not text.isprintable():  # "C:\temp" in double quotes has a tab
            raise ConfigError("A path has control characters.", where=source, found=repr(text), fix=BACKSLASH)
        return str(base / Path(text).expanduser())

    def tls(one: Tls | None) -> Tls | None:
        return one and Tls(certificate=at(one.certificate), key=at(one.key), ca=at(one.ca))

    def file_or_name(text: str | None) -> str | None:
        return at(text) if text and (base / text).exists() else text

    return replace(
        config,
        storage=at(config.storage),
        tls=tls(config.tls),
        destinations={n: replace(d, tls=tls(d.tls)) for n, d in config.destinations.items()},
        watch=tuple(replace(w, folder=at(w.folder)) for w in config.watch),
        rules=tuple(
            replace(
                r,
                model=file_or_name(r.model) or "",
                profile=file_or_name(r.profile) or "generic",
                derive=file_or_name(r.derive),
                template=file_or_name(r.template),
            )
            for r in config.rules
        ),
    )
