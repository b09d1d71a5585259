"""The life of a service: what state it is in, how it stops, and who may ask it to."""
