"""Where the answer of a text is: the part of a response that is read, boxes, and sentences that state an answer."""
