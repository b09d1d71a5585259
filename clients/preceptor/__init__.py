"""Preceptor: the client side. SDK, command line, codec, queue client, recipes, learner and journal."""
