"""Parts of `bench_sharing`: jobs with keys of their own that ask one teacher through two doors, by the wall clock."""
