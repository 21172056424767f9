"""What the environment says about this test run; read once, before `tests/conftest.py` cleans it."""

import os

IN_CI = os.environ.get("CI") == "true" or os.environ.get("TENURE_CI") == "1"
"""A program that a test needs must be there: its absence fails the test."""

PROVE = os.environ.get("TENURE_PROVE") == "1"
"""Long proofs run at full size, as under `make prove`."""

SEED = int(os.environ.get("TENURE_SEED", "-1"))
"""The one seed that the simulation of whole nodes runs, to repeat what a run has printed; -1 for the usual ones."""
