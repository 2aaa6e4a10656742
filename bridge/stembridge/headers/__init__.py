"""What the headers of sound files promise, held against what is there; libsndfile believes most of them."""
