"""Synthetic CT from label maps: real anatomy, deformed and filled at random, given Hounsfield units and a scanner."""
