"""Whether a contour is likely to be right: shape, ranges of the training patients, confidence, image."""
