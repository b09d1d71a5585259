"""Reports of runs as one self-contained HTML page: no script from elsewhere, no font, no picture that has to be fetched."""

from preceptor.report.demo import Criterion, DemoReport, RunCurves, Sample, ScoredToken, render_demo

__all__ = ["Criterion", "DemoReport", "RunCurves", "Sample", "ScoredToken", "render_demo"]
