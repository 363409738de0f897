"""Whether trainings can change anything."""

from w2sr_jax.ladder.findings import Findings, Subject


def training(subject: Subject, found: Findings) -> None:
    """Is there a learning rate?"""
    for trained in subject.trainings:
        rate = trained.training.learning_rate
        if rate == 0:
            found.refuse(f"{trained.where}: training.learning_rate is 0, so that nothing would be learnt; set it above 0")
    rates = sorted(
        {(trained.training.learning_rate, trained.training.steps, trained.training.epochs) for trained in subject.trainings},
        key=str,
    )
    for rate, steps, epochs in rates:
        found.see(f"{steps:,} steps at {rate:g}" if epochs is None else f"{epochs:g} epochs at {rate:g}")
