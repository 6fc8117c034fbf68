"""Where problems come from: datasets and generators, prompt templates, disjoint sets, a deterministic stream."""
