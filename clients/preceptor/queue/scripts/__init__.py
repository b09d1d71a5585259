"""The atomic steps of the queue, as pure functions on the keys of one slot.

Each is what a server-side script is elsewhere: it reads, decides and writes without anything in between, names the kinds of
keys that it touches (`script`), takes the time from its slot and random numbers from its caller. `SCRIPTS` lists them all;
`docs/protocol.md` says the same in words, and a test holds the two together.
"""

from preceptor.queue.scripts.declared import SCRIPTS, script

__all__ = ["SCRIPTS", "script"]
