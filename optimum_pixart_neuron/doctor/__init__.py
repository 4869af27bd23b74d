"""What a machine lacks for an export of the released model, and the one thing to do first."""
