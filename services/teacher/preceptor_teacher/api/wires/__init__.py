"""The wire formats of providers."""

from preceptor_teacher.api.wires.anthropic import MESSAGES
from preceptor_teacher.api.wires.openai import AZURE, CHAT, COMPLETIONS
from preceptor_teacher.api.wires.protocol import Parsed, Wire

WIRES: dict[str, Wire] = {wire.name: wire for wire in (CHAT, COMPLETIONS, AZURE, MESSAGES)}
"""Name -> wire format. To add one, write its functions in a module of this folder, name the `Wire` here, and its name in
`options.WireName`."""

__all__ = ["WIRES", "Parsed", "Wire"]
