"""Dragon, which taskensemble does not launch with."""
