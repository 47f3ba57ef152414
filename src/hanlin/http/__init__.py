"""The HTTP edge: routes, authentication, streaming. The one place where dialects meet `service`."""
