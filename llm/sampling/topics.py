"""The sentence task: topics to train on, topics held out, and what is asked about them."""

PROMPT = "Write one sentence about {topic}."

# fmt: off
TOPICS = (
    "rivers", "mountains", "bread", "coffee", "music", "libraries", "bicycles", "winter", "gardens", "dogs", "cats",
    "trains", "friendship", "football", "painting", "oceans", "bridges", "teachers", "chocolate", "rain", "history",
    "dancing", "airplanes", "forests", "markets", "cooking", "stars", "birthdays", "computers", "horses", "museums",
    "volcanoes",
)
# fmt: on
HELD_OUT_TOPICS = ("cheese", "castles", "whales", "school", "fireworks", "spiders", "snow", "taxes")
TRAIN_EVAL_TOPICS = TOPICS[::4]  # as many as are held out: what online training measures on topics it sees
