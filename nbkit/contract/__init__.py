"""What goes into and comes out of a model, who owns it, and what it must reach."""
