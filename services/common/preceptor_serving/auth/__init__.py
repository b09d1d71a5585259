"""Who calls, and what they may do: keys, scopes, tenants.

`keys` says what a key is, `key_file` where the hashes come from, `credentials` how a caller may present one, `gate` who
gets in. Secrets are never stored, logged or compared other than as sha256 digests in constant time.
"""
