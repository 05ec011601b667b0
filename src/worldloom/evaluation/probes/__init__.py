"""Probes: what the report asks of a model. A user's own stand beside ours.

A probe is a function of :class:`Dreams` that returns figures. ``worldloom evaluate RUN --probes my_probes:blur`` or
``evaluate(run, probes=[blur])`` runs it; its figures stand in report.json and report.html as ``blur/NAME``.
"""

from worldloom.evaluation.probes.base import (
    PROBES,
    SETS,
    NotMeasurableError,
    Probe,
    ProbeFunction,
    default_probes,
    find_probes,
    measure_all,
    probe,
)
from worldloom.evaluation.probes.dreams import Dreams, ProbeError, gather

__all__ = [
    "PROBES",
    "SETS",
    "Dreams",
    "NotMeasurableError",
    "Probe",
    "ProbeError",
    "ProbeFunction",
    "default_probes",
    "find_probes",
    "gather",
    "measure_all",
    "probe",
]
