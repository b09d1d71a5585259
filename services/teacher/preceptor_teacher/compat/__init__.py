"""Doors that speak other servers' dialects, for trainers that know nothing of this one. docs/trainers.md is their page.

Each module translates one dialect, without a socket: a body to `Ask`s, and `Answer`s back to that dialect's JSON. Between them
stands `TeacherService.score`, so keys, quotas, limits, cache and scheduler are those of `/v1/score`; `routes.py` binds the paths.

What a dialect can ask and this server cannot give is refused by the dialect's own name for it. To add one: a module with a body,
`read` and `write`, a route in `routes.py`, and its rows in docs/trainers.md and scripts/access_table.py.
"""
