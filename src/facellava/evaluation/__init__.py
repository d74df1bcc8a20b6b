"""Evaluation that can be trusted: benchmarks as data, anyone who answers, metrics with intervals, judges, reports."""
