"""What every Preceptor service shares: doors, auth, limits, lifecycle, scheduler and engine processes."""
