"""How good is a model, and is it better than another: answers, process, statistics, gap recovered, cost. NumPy only."""
