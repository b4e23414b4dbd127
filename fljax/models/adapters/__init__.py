"""Modules of other libraries as a `Model`, one file for each library."""
