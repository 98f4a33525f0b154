"""FFmpeg's libraries: containers and codecs that libsndfile does not read."""
