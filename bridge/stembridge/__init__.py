"""Stembridge: stems that sum back to the original, through one resident daemon."""
