"""Records and events that change together: transactions, the outbox, the inbox."""
