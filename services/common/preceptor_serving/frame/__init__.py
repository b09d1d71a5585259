"""What every request of every door passes: admission, identity, deadline, accounting, one named outcome."""
