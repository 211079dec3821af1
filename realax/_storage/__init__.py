"""What a run leaves on disk, and what tells one run from another."""
