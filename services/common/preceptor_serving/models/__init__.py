"""What engines over local models share: reading a model folder, exact top-k, draws.

`folder` needs no torch, so that doors may name and check folders; the other modules belong into an engine's process.
"""
