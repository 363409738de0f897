"""The mark of classes that a user's own settings may extend."""


class Extendable:
    """Base of what configurations may hold kinds of their own of: losses, schedules, teachers, starts, selections, training
    stages, problem sources, stages. A run whose own code is not executed shows such a value as a stand-in of the nearest class of
    ours below this one, whose answers are then those of any of its kind.
    """
