"""Other people's trainers with a teacher of ours, over the native door. A module needs its trainer; `preceptor` does not."""
