"""Result folders as sessions that a DAW opens: the stems at their place, the original muted."""
