"""Copies of CT, RTSTRUCT and SEG without the patient's identity, after the Basic Profile of PS3.15."""
