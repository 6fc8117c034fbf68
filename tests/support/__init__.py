"""What tests of several packages share: deadlines, small runs, stand-ins, and scripts that they start."""
