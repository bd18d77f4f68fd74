"""Small tools for the Makefile."""
