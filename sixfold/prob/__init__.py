"""Whatever has a log or a divergence: codecs, heads, bijections, schedules, games."""
