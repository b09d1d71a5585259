"""The doors: gRPC and REST servers over one service object."""
