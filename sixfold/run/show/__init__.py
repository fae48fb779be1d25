"""What a trained model can show of itself: sections of its page, by what it can do and what one datum is."""
