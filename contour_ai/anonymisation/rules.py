"""Which elements of a data set survive: numbers and codes do, text does only where it is named here.

PS3.15 table E.1-1 lists what has to go. This module turns it round, so that what the table does not know (a new
attribute, a scanner's habit) goes as well: every private, unknown, overlay and curve element is removed, and every
element of a text VR that is not named below. Keywords of PS3.6.
"""

from __future__ import annotations

from contour_ai.anonymisation.options import Keep

TEXT_VRS = frozenset({"AE", "AS", "LO", "LT", "PN", "SH", "ST", "UC", "UN", "UR", "UT"})
"""Value representations that a person may have typed into; UN may hold any of them."""

KEPT_TEXT = frozenset(
    {
        "CodeMeaning",
        "CodeValue",
        "CodingSchemeDesignator",
        "CodingSchemeVersion",
        "ConvolutionKernel",
        "DimensionDescriptionLabel",
        "FilterType",
        "LongCodeValue",
        "Manufacturer",
        "ManufacturerModelName",
        "RescaleType",
        "SegmentAlgorithmName",
        "SoftwareVersions",
    }
)
"""Text that describes the image or is drawn from a code list."""

CLEANED_TEXT = frozenset({"ROIName", "SegmentLabel"})
"""Text that has to stay because a structure is nothing without its name; what is the patient's is taken out of it."""

EMPTIED = frozenset(
    {
        "AccessionNumber",
        "ContentCreatorName",
        "ContentDescription",
        "OperatorsName",
        "PatientBirthDate",
        "PatientSex",
        "PositionReferenceIndicator",
        "ROIInterpreter",
        "ReferringPhysicianName",
        "StudyID",
        "TreatmentSites",
    }
)
"""Type 2 in one of the three objects: present and empty."""

REMOVED = frozenset(
    {
        "CurrentPatientLocation",
        "DataSetTrailingPadding",
        "DateOfLastCalibration",
        "DateOfLastDetectorCalibration",
        "DigitalSignaturesSequence",
        "EncryptedAttributesSequence",
        "IconImageSequence",
        "InstitutionCodeSequence",
        "InstitutionalDepartmentTypeCodeSequence",
        "LastMenstrualDate",
        "MACParametersSequence",
        "ModifiedAttributesSequence",
        "OriginalAttributesSequence",
        "OtherPatientIDsSequence",
        "PatientAge",
        "PatientBirthTime",
        "PatientInsurancePlanCodeSequence",
        "PatientPrimaryLanguageCodeSequence",
        "PatientSexNeutered",
        "PatientSize",
        "PatientWeight",
        "PerformedProtocolCodeSequence",
        "PersonIdentificationCodeSequence",
        "PregnancyStatus",
        "ReferencedPatientAliasSequence",
        "ReferencedPatientPhotoSequence",
        "ReferencedPatientSequence",
        "RequestAttributesSequence",
        "ScheduledProcedureStepStartDate",
        "ScheduledProcedureStepStartTime",
        "SmokingStatus",
        "SourcePatientGroupIdentificationSequence",
        "TimeOfLastCalibration",
        "TimezoneOffsetFromUTC",
    }
)
"""Elements of other VRs that PS3.15 removes, or that say who the patient is."""

OPTIONAL: dict[Keep, frozenset[str]] = {
    Keep.DATES: frozenset(),
    Keep.PATIENT: frozenset(
        {"PatientAge", "PatientSex", "PatientSexNeutered", "PatientSize", "PatientWeight", "PregnancyStatus"}
    ),
    Keep.DEVICE: frozenset(
        {
            "DateOfLastCalibration",
            "DateOfLastDetectorCalibration",
            "DetectorID",
            "DeviceSerialNumber",
            "StationName",
            "TimeOfLastCalibration",
        }
    ),
    Keep.DESCRIPTIONS: frozenset(
        {
            "ContrastBolusAgent",
            "ProtocolName",
            "ROIDescription",
            "ROIObservationLabel",
            "SegmentDescription",
            "SeriesDescription",
            "StructureSetDescription",
            "StructureSetLabel",
            "StructureSetName",
            "StudyDescription",
        }
    ),
}
"""Elements that an option keeps; descriptions are cleaned like ROI names."""

REPLACED: dict[str, str] = {"StructureSetLabel": "STRUCTURES", "ContentLabel": "SEGMENTATION"}
"""Type 1, so they need a value."""

CODE_LISTS = frozenset({"ContextGroupVersion", "ContextGroupLocalVersion"})
"""Dates of code lists, which are no dates of the patient."""


def kept_text(keep: frozenset[Keep]) -> frozenset[str]:
    """Keywords of text elements that stay, with what the options keep."""
    return KEPT_TEXT | CLEANED_TEXT | _optional(keep)


def removed(keep: frozenset[Keep]) -> frozenset[str]:
    """Keywords of elements that go whatever their VR."""
    return REMOVED - _optional(keep)


def emptied(keep: frozenset[Keep]) -> frozenset[str]:
    """Keywords of elements that stay without a value."""
    return EMPTIED - _optional(keep)


def _optional(keep: frozenset[Keep]) -> frozenset[str]:
    return frozenset().union(*(OPTIONAL[option] for option in keep))
