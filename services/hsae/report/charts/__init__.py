"""Interactive figures from plain rows, as the dictionaries that Plotly draws: `plotly.graph_objects.Figure(figure)`."""

from hsae.report.charts.edits import edit_about, edit_figure, edit_title
from hsae.report.charts.headline import MEASURES, headline_figure, headline_points
from hsae.report.charts.histogram import ActivationHistogram, histogram_figure
from hsae.report.charts.known_nodes import known_nodes, known_nodes_figure
from hsae.report.charts.pareto import pareto_figure
from hsae.report.charts.taxonomy import TaxonomyChart, taxonomy_chart

__all__ = [
    "MEASURES",
    "ActivationHistogram",
    "TaxonomyChart",
    "edit_about",
    "edit_figure",
    "edit_title",
    "headline_figure",
    "headline_points",
    "histogram_figure",
    "known_nodes",
    "known_nodes_figure",
    "pareto_figure",
    "taxonomy_chart",
]
