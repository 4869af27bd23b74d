"""Hardware families that change how NxD lays out its groups (NxD 0.15 `utils/utils.py`)."""

import os
from enum import Enum


class hardware(Enum):
    """Family of a platform target.

    `CUSTOM` is whatever `NEURON_PLATFORM_TARGET_OVERRIDE` said when this module was imported, so an override of
    "inf2" is CUSTOM and not TRN1. `hardware(name)` raises ValueError for a target unknown to NxD 0.15, as trn3.
    """

    TRN1 = "trn1"
    TRN2 = "trn2"
    CUSTOM = os.environ.get("NEURON_PLATFORM_TARGET_OVERRIDE")

    @classmethod
    def _missing_(cls, value):
        return cls.TRN1 if value in ("trn1n", "inf2") else None
