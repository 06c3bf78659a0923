"""A draft of a department's own file for a model: use, data, performance, limits, risks, monitoring, sign-off."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from contour_ai.bundle import ModelBundle
from contour_ai.bundle.poor_models import weaknesses
from contour_ai.bundle.seen_series import series_in_words
from contour_ai.evaluation.report import summarise
from contour_ai.files import private_file, write_text
from contour_ai.pipeline._commission.strata import FEW, OPERATED, STRATA, STRATA_FILE, Strata
from contour_ai.pipeline.card import FIELDS
from contour_ai.render import CAUTION
from contour_ai.report.commissioning import CommissioningPage
from contour_ai.report.document import Document, Items, Missing, Part, Section, Table, html_of, markdown_of

DOSSIER = "dossier"

NO_REGULATORY_FILE = (
    "It replaces no regulatory file; in the European Union, Article 5(5) of Regulation (EU) 2017/745 says what a "
    "health institution documents of devices that it makes for itself."
)
RISKS = (
    (
        "a contour is missing, or ends too early",
        "findings `empty`, `touches_scan_end`; verdict `look` or `stop`",
    ),
    (
        "an organ is drawn on the other side, or in another organ",
        "position against the training patients; `stop`",
    ),
    (
        "the scan shows another part of the body",
        "the patient's verdict is `stop`; no structure set is written",
    ),
    (
        "an image unlike those of the training (noise, metal, voxels)",
        "findings `input_…`; not every difference is seen",
    ),
    ("a plausible contour that is wrong", "none: a verdict that is clear is no review"),
    (
        "contours are used without review",
        "SeriesDescription and StructureSetDescription say that they need review",
    ),
    (
        "another model or version contours than was commissioned",
        "fingerprint of weights and rules; `require: commissioned`",
    ),
    ("an update changes contours", "`contour-ai commission --repeat`"),
    ("results slowly get worse in use", "`contour-ai monitor` with control charts"),
)
"""(hazard, what the program does about it)."""


def write_dossier(folder: Path, bundle: ModelBundle, page: CommissioningPage, strata: Strata) -> None:
    """Writes `dossier.md`, `dossier.html` and the table of groups, to be completed.

    Raises:
        OutputError: the folder cannot be written.
    """
    document = draft_dossier(bundle, page, strata)
    write_text(private_file(folder / f"{DOSSIER}.md"), markdown_of(document))
    write_text(private_file(folder / f"{DOSSIER}.html"), html_of(document))
    strata.save(folder / STRATA_FILE, [patient.patient for patient in page.patients])


def draft_dossier(bundle: ModelBundle, page: CommissioningPage, strata: Strata) -> Document:
    """The draft: what the model and the commissioning run say, and gaps for all that they cannot know."""
    return Document(
        title=f"Dossier of {bundle.name} {bundle.version} in this department",
        subtitle=page.subtitle,
        caution=CAUTION,
        sections=(
            _use(bundle, page),
            _data(bundle, page),
            _performance(page),
            _by_stratum(page, strata),
            _limits(bundle, page),
            _risks(bundle),
            _monitoring(page),
            _sign_off(page),
        ),
    )


def _use(bundle: ModelBundle, page: CommissioningPage) -> Section:
    model = page.environment.get("Model", {})
    judged = [roi for roi in bundle.roi_names if roi not in page.not_judged]
    facts = [
        f"Model: {bundle.name} {bundle.version}, kind {bundle.kind}; {bundle.description or 'no description'}",
        f"Fingerprint of weights and rules: {model.get('fingerprint of weights and rules', 'not named')}",
        f"Part of the body: {bundle.region or 'not named'}",
        f"ROIs with limits in this run: {', '.join(judged) or 'none'}",
        f"ROIs without limits, which this file does not cover: {', '.join(page.not_judged) or 'none'}",
        f"Software: contour-ai {page.environment.get('Software', {}).get('contour-ai', 'not named')}",
        "Output: contours for review by a qualified person; nothing is approved or planned by the program",
    ]
    return Section(
        heading="1. Intended use",
        parts=[
            NO_REGULATORY_FILE,
            Items(facts),
            *_from_card(
                bundle,
                "Intended users",
                "who uses the contours, with what training; who reviews and approves them",
            ),
            Missing(
                "for which patients it is used and for which not (age, region, positioning, devices, operations)"
            ),
            Missing("where it stands in the workflow, and what is done where it gives no contours"),
            Missing("why no device on the market is used instead, where the law asks for a reason"),
        ],
    )


def _data(bundle: ModelBundle, page: CommissioningPage) -> Section:
    data = bundle.data
    trained = [
        f"{data.training_patients} training patients, {data.patients} in all; {data.synthetic_patients} synthetic ones",
        f"Series of the training: {series_in_words(data.seen_series)}",
    ]
    if data.saw_no_patient:
        trained.insert(0, "It never saw a patient: all that it learnt from was drawn")
    rows = [[p.patient, p.ct or "not read", p.problem or "; ".join(p.flags) or "none"] for p in page.patients]
    return Section(
        heading="2. Data",
        parts=[
            "The model was trained on:",
            Items(trained),
            *_from_card(
                bundle,
                "Data",
                "where the training patients come from, and how they differ from this department's",
            ),
            *_from_card(bundle, "Contours", "who contoured the training patients, and by which guideline"),
            f"Commissioned with {len(page.patients)} patients of this department:",
            Table(head=["patient", "CT", "findings"], rows=rows),
            Missing(
                "how these patients were chosen (period, consecutive or picked), and whether they stand for all to come"
            ),
            Missing("who drew their contours, by which guideline, and how far two of these people differ"),
        ],
    )


def _performance(page: CommissioningPage) -> Section:
    limits = [[c.subject, c.rule, c.found, "kept" if c.passed else "NOT KEPT", c.detail] for c in page.limits]
    figures = []
    for one in summarise(page.rows):
        dsc, surface, hd95 = (one.spread[name] for name in ("dsc", "surface_dsc", "hd95_mm"))
        figures.append(
            [
                one.roi,
                str(one.n),
                str(one.prediction_missing),
                *(
                    f"{_number(s.median, d)} [{_number(s.q1, d)}, {_number(s.q3, d)}]"
                    for s, d in ((dsc, 3), (surface, 3), (hd95, 1))
                ),
            ]
        )
    head = ["ROI", "patients", "without a prediction", "DSC: median [quartiles]", "surface DSC", "HD95 in mm"]
    checks = [check for check in (*page.run, *page.self_test) if not check.passed]
    return Section(
        heading="3. Performance",
        parts=[
            f"Verdict of the run: {'PASS' if page.passed else 'FAIL'}; {page.verdict}.",
            Table(head=["ROI", "limit", "found", "result", "concerned"], rows=limits),
            Table(head=head, rows=figures),
            *(
                [Items([f"Failed besides: {c.subject}, {c.rule}: {c.detail or c.found}" for c in checks])]
                if checks
                else []
            ),
            Missing(
                "why these limits: what the literature, other models and two observers of this department reach"
            ),
            Missing(
                "time saved, corrections needed, and dose effect of uncorrected contours, as far as measured"
            ),
        ],
    )


def _by_stratum(page: CommissioningPage, strata: Strata) -> Section:
    parts: list[Part] = [
        "Groups that the files tell: metal is 1 cm³ and more above 2500 HU anywhere in the image; contrast, what the "
        f"header names; scanner and slices from the header. {STRATA_FILE} has them by patient, to be completed: "
        "`contour-ai commission --dossier --strata FILE` reads it back."
    ]
    patients = [patient.patient for patient in page.patients]
    for stratum in dict.fromkeys([*STRATA, *strata.groups]):
        groups = strata.groups.get(stratum, {})
        unknown = [patient for patient in patients if patient not in groups]
        rows = [
            [f.roi, f.group, f"{f.patients}{' (few)' if f.patients < FEW else ''}", _number(f.dsc_median, 3),
             _number(f.dsc_least, 3), _number(f.hd95_mm_median, 1)]
            for f in strata.figures(stratum, page.rows)
        ]  # fmt: skip
        parts.append(f"By {stratum}:")
        if rows:
            head = ["ROI", stratum, "patients", "median DSC", "least DSC", "median HD95 in mm"]
            parts.append(Table(head=head, rows=rows))
        if len({groups[patient] for patient in patients if patient in groups}) == 1 and not unknown:
            parts.append(
                Missing(
                    f"all patients are one group ({next(iter(groups.values()))}): nothing is known of others"
                )
            )
        if unknown:
            who = "no CT tells it" if stratum == OPERATED else "not known"
            parts.append(
                Missing(
                    f"{stratum} of {len(unknown)} of {len(patients)} patients ({who}): complete {STRATA_FILE}"
                )
            )
    return Section(heading="4. Performance by group", parts=parts)


def _limits(bundle: ModelBundle, page: CommissioningPage) -> Section:
    known = [f"{sentence}." for sentence in weaknesses(bundle)]
    known += [
        f"{c.subject}: {c.rule} was not kept ({c.found}; {c.detail})." for c in page.limits if not c.passed
    ]
    known += [f"Not judged: {', '.join(page.not_judged)}."] if page.not_judged else []
    known += list(page.notes)
    return Section(
        heading="5. Limits",
        parts=[
            *([Items(known)] if known else ["Nothing is known but what stands above."]),
            *_from_card(
                bundle,
                "Known limits",
                "where the model fails or must not be used, seen in this department's patients",
            ),
        ],
    )


def _risks(bundle: ModelBundle) -> Section:
    rows = [[hazard, control, f"({GAP_CELL})"] for hazard, control in RISKS]
    return Section(
        heading="6. Risks",
        parts=[
            Table(
                head=["what can happen", "what the program does about it", "our measure, and who"], rows=rows
            ),
            Missing(
                "severity, probability and detectability of each, this department's measure, and the risk that is left"
            ),
            *_from_card(bundle, "Ethical use", "groups of patients that it may treat worse than others"),
        ],
    )


GAP_CELL = "gap"


def _monitoring(page: CommissioningPage) -> Section:
    medians = [f"{s.roi} {_number(s.spread['dsc'].median, 3)}" for s in summarise(page.rows)]
    return Section(
        heading="7. Monitoring plan",
        parts=[
            Items(
                [
                    "After every update of program, driver, machine or model: `contour-ai commission DATA_DIR --repeat "
                    "THIS_FOLDER --out NEW_FOLDER`; use goes on only with exit status 0, or after the differences were "
                    "looked at and accepted.",
                    "In use: `contour-ai monitor` compares AI contours with the approved ones; its control charts take "
                    "this run as what was promised (`--commissioning`).",
                    f"Median DSC of this run: {', '.join(medians) or 'none'}.",
                    "After a change of scanner, protocol, guideline or patients: a new commissioning.",
                ]
            ),
            Missing(
                "how often the charts are looked at, by whom, and from which figure on the model is withdrawn"
            ),
            Missing("to whom incidents are reported, and who decides"),
        ],
    )


def _sign_off(page: CommissioningPage) -> Section:
    rows = [
        [role, "", ""]
        for role in ("Carried out by", "Medical physicist", "Radiation oncologist", "Head of department")
    ]
    weights = page.environment.get("Model", {}).get("weights SHA-256", "not named")
    return Section(
        heading="8. Sign-off",
        parts=[
            f"This file is of the weights {weights}, with the verdict {'PASS' if page.passed else 'FAIL'}.",
            Table(head=["function", "name", "date, signature"], rows=rows),
            Missing("valid until"),
        ],
    )


def _from_card(bundle: ModelBundle, heading: str, asked: str) -> Sequence[Part]:
    """What the model's own notes say under a heading of the card, and what this department has to add."""
    field = next(field for field in FIELDS if field.heading == heading)
    known = field.heading_in(bundle.notes)
    return (
        [Missing(asked)]
        if known is None
        else [f"{known}, from the model card: {bundle.notes[known].strip()}", Missing(asked)]
    )


def _number(value: float, decimals: int) -> str:
    return "–" if math.isnan(value) else "∞" if math.isinf(value) else f"{value:.{decimals}f}"
