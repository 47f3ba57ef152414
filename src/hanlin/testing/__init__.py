"""Fakes that we ship, for our tests and for users of Hanlin. Nothing else imports them."""
