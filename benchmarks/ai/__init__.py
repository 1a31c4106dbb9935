"""How fast the AI database is, beside PING, SET and GET on the same socket and the same models in process."""
