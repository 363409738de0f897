"""Pictures: values with intervals, curves, pairs of shares, the ladder. Equal numbers give equal SVG."""
