"""Everything that can be said plainly is in setup.cfg; this file is what `pip` calls."""

from setuptools import setup

setup()
