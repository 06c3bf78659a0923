"""Where DICOM and torch meet: training, prediction, evaluation. The functions for users are in `contour_ai`."""
