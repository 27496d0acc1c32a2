"""The doctor: looks at data before an allocation is wasted on it.

``examine`` reads a bounded sample of the source and, where there is one, the training store, and
reports facts and ``Finding``s: what, where, why it matters, and the remedy.
"""

from data_pipeline.doctor.examination import Examined, examine
from data_pipeline.doctor.findings import CHECKS, Finding, Report, found, refused
from data_pipeline.doctor.times import Horizons

__all__ = ["CHECKS", "Examined", "Finding", "Horizons", "Report", "examine", "found", "refused"]
