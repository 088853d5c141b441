"""The report of a study: one HTML file that needs neither a server nor a network."""

from hsae.report.page.content import Card, CardImage, ImageRow, ReportContent, Table, Value
from hsae.report.page.halves import Drawn, averaged
from hsae.report.page.render import render_report
from hsae.report.page.verdict import Trend, verdict_text

__all__ = [
    "Card",
    "CardImage",
    "Drawn",
    "ImageRow",
    "ReportContent",
    "Table",
    "Trend",
    "Value",
    "averaged",
    "render_report",
    "verdict_text",
]
