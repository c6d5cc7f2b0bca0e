"""Leaderboards: cells that are run once, their records, and the table and page made from them."""
