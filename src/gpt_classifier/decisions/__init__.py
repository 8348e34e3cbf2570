"""From probabilities to decisions: when to answer at all, what mistakes cost, how frequent classes are."""
