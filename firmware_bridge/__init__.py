"""What a device says: streams and chunks, a codec for each payload, and the frame of our own firmware."""
