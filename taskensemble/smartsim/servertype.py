"""What SR_DB_TYPE says of a database."""

CLUSTERED = "Clustered"
STANDALONE = "Standalone"
