"""Generated from proto/anchorhold/v1; never edited."""
