"""Python processes of this package: what they import, what is handed to them, and what ends them."""
