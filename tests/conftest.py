"""Lets the tests in subfolders import what lies here (`import synthetic`): pytest puts this folder on the path."""
