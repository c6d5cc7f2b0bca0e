"""The packages are found by their folders; everything else is in setup.cfg."""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["recbole_gr*"]), "recbole_gr.properties"])
