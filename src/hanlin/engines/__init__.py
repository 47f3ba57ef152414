"""What runs and reaches the models: child processes, their profiles, and the HTTP client to them."""
