"""One file a chapter; a chapter registers its claims when it is imported. In the order a reader meets them."""

CHAPTERS = ("master", "maxent", "preferences", "simpo", "estimators")
