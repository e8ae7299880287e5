"""The four workflows, one itinerary each."""
