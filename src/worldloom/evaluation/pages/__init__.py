"""The pages of a report: of one run, and of several side by side."""

from worldloom.evaluation.pages.command import as_given
from worldloom.evaluation.pages.pictures import Evidence
from worldloom.evaluation.pages.report import render

__all__ = ["Evidence", "as_given", "render"]
