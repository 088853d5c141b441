"""Figures for papers: PNG, SVG or PDF, with colours that readers with any colour vision tell apart."""
