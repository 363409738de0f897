"""Models and traces to and from other formats: `importing` and `exporting` of models, `publish` for traces, and the model card
(`card`, `measured`, `markdown`)."""
