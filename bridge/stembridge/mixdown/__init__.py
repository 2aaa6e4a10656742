"""A remix of a finished set: rendered, closed in integers, verified, published."""
