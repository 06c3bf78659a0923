"""A DICOM node: CT in over C-STORE or from a folder, structure set out to the planning system, nothing lost on the way.

The service is a few threads around one SQLite database, which says what has to be done next: whatever is killed when,
the next start goes on from what the database and the disk say. Networks run in worker processes.
"""
