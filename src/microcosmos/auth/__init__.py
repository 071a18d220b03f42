"""Who may: accounts, rules, tokens, and the credentials the engine checks."""
