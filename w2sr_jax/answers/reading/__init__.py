"""Where an answer stands in a text: what the text says itself, boxes, and sentences that state an answer."""
