"""Structures derived from others by a recipe: margins, booleans, rings, cuts. No DICOM and no torch in here."""
