"""Many simulated workers against one broker: what a member costs it, and where it saturates."""
