"""EmoBox: its head trained fold by fold and across corpora, tables and figures, its corpora and leaderboard."""
