"""Reading and writing DICOM: CT series and structure sets. Imports no torch."""
