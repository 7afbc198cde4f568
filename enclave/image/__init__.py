"""What starts inside the image: the measured init."""
