"""contour-ai: exact, open auto-contouring for radiotherapy (DICOM CT in, DICOM RTSTRUCT out)."""

__version__ = "0.1.0"
