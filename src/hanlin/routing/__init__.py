"""Which deployment answers, and when: pure decisions, and the waiting for a free place."""
