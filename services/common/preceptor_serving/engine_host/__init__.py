"""Engines in processes of their own: doors never share their GIL, and an engine's crash is not a door's.

    parent (asyncio)                                     child (one engine)
    EngineHost      restarts, back-off, troubles
      EngineProcess one life: calls, heartbeats  ══════▶  child: reader thread + turns on the main thread
                                                ◀══════     methods: bytes -> stream of bytes
Both sides speak `frames` over a socket pair. `InlineEngine` is the same calls without the process, `ScoringClient` the typed
face of either. Nothing is imported here: the child loads its own half alone.
"""
