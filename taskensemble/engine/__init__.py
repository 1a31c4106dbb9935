"""Records and what keeps them: the schemas, the store and its script, messages, signatures."""
