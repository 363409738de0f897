"""The stage that gathers a run's results and renders them."""
