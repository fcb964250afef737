"""What came, as it came: a ring of raw streams per patient on disk, and the way back from there to an alert."""
