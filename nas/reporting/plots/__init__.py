"""Static plots of trial records, drawn with matplotlib."""
