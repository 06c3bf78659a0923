"""Patients to try everything on: phantoms drawn from a seed, and the public OpenKBP dataset as DICOM."""
