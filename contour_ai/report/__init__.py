"""Reports to look at: self-contained HTML pages of a patient, of a cohort, and of a commissioning run."""
