"""Losses per token (`token`), over training (`schedules`), with weights (`weights`), evaluated without full logits (`blocks`)."""
