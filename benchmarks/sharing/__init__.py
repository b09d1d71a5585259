"""Parts of the sharing simulation: traffic, a modelled teacher, queues to compare, and measures."""
