"""`pixart-generate`: a file of prompts becomes a folder of pictures that `datasets` loads."""
