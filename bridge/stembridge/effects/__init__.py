"""What a chain does to a stem: the table of effects, and the stream that runs them."""
