"""What serves: Flask, and no mathematics. One blueprint a file."""
