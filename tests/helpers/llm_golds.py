"""Gold rewards of the tests' own: the tiny model writes no English that sentiment could read."""


def letters(text, topic):
    return sum(c.isalpha() for c in text) / 10


def about(text, topic):
    return len(topic) + 0.5 * text.count("x")


def nothing(text, topic):
    return None
