"""What commands print, in one style."""
