"""Something to see after the installation: a small trained PixArt-Sigma, its export, and both their pictures."""
