"""What at least two services use; imports none of them."""
