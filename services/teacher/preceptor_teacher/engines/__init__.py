"""Engines that score with a model, behind `preceptor_serving.engines.protocol`."""
