"""Jobs: checks that go on without their client. Loads SQLAlchemy, so that only what uses jobs may import its parts."""
