"""What of the hits a prompt shows: units, their worth, and what fits the budget."""
