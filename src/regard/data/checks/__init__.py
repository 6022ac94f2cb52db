"""Checks of parallel text: what is wrong with it, where, and what to do about it."""

from regard.data.checks.characters import cleaned
from regard.data.checks.check import Part, Progress, check
from regard.data.checks.clean import CleanCopy
from regard.data.checks.comparison import TokenizerMaker
from regard.data.checks.findings import Example, Finding, PartSummary, Report
from regard.data.checks.rules import RULES, Rule, Severity

__all__ = [
    "RULES",
    "CleanCopy",
    "Example",
    "Finding",
    "Part",
    "PartSummary",
    "Progress",
    "Report",
    "Rule",
    "Severity",
    "TokenizerMaker",
    "check",
    "cleaned",
]
