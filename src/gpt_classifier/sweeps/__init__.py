"""What a sweep found: its runs side by side, the best of them measured on test, a table and a page."""
