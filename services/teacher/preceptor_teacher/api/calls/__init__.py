"""What was asked of a provider, what it cost, and what it answered: written down before and after each call.

records   the values (pure)
database  the file (sqlite) and its statements
store     the same from the event loop, and the secret that belongs to the file
"""

from preceptor_teacher.api.calls.records import NOBODY, Account, Payer, Spent
from preceptor_teacher.api.calls.store import CallStore

__all__ = ["NOBODY", "Account", "CallStore", "Payer", "Spent"]
