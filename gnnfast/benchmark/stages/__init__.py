"""What can be measured: each stage sets up a comparison."""
