"""What a network says: packs, their manifests, and the runtimes that run them."""
