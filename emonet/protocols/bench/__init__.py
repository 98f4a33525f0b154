"""EmoNet-Voice Bench: its published form, a small file like it, its tables and figures, and those of the paper."""
