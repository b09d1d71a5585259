"""What tenants may use and what they used: reservations before work is taken, counts when it ends.

`desk` makes, renews and settles reservations, `book` counts, `accounts` is what a service holds of both. Where they are kept is a
`preceptor.queue.quotas.Ledger`: the server that all workers share, or this process.
"""

from preceptor_serving.quotas.accounts import Accounts
from preceptor_serving.quotas.desk import Desk, Hold

__all__ = ["Accounts", "Desk", "Hold"]
