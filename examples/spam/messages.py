"""Text messages generated from a few phrases, with a fixed seed: wanted ones (ham) and unwanted ones (spam).

Some phrases and all fillers occur in both kinds, so that single words do not decide every message.
"""

from __future__ import annotations

import random

SPAM_PHRASES = (
    "you have won a {prize}", "claim your free {prize} now", "call {number} to claim your {prize}",
    "urgent! your {prize} is waiting", "reply WIN to {number}", "text STOP to {number} to opt out",
    "limited offer: {prize} for only {price}", "your account will be closed, verify it at {site}",
    "click {site} to get {price} cash", "earn {price} a week working from home",
    "cheap loans approved today, visit {site}",
    "congratulations, you were selected for a {prize}", "no credit check, apply at {site}",
)  # fmt: skip
HAM_PHRASES = (
    "are you coming to {place} tonight", "i will be late, start without me",
    "can you pick up some {food} on the way home",
    "see you at {place} at {hour}", "happy birthday! have a lovely day", "did you get the {food} i left for you",
    "the meeting moved to {hour}", "please call me when you get home", "thanks for {food} yesterday, it was great",
    "my phone was off, what is up", "let us meet at {place} instead", "i paid {price} for the tickets, you owe me half",
    "the train is late again, home by {hour}",
)  # fmt: skip
FILLERS = (
    "hi",
    "hello",
    "hey",
    "ok",
    "please",
    "now",
    "today",
    "thanks",
    "dear friend",
    "asap",
    "lol",
    "so",
    "free later?",
)
WORDS = {
    "prize": ("holiday", "new phone", "gift card", "luxury cruise", "laptop"),
    "number": ("08001112", "80086", "0900 555 123"),
    "price": ("500", "1000", "20", "99"),
    "site": ("www.win-now.example", "http://bank-login.example", "cash4u.example"),
    "place": ("the cinema", "the station", "work", "the usual place", "grandma's"),
    "food": ("milk", "bread", "cake", "dinner", "the soup"),
    "hour": ("five", "six thirty", "8", "noon"),
}


def make_messages(count: int, seed: int) -> tuple[list[str], list[str]]:
    """Generate messages and their labels, `ham` or `spam`, about a third of them spam."""
    source = random.Random(seed)
    labels = ["spam" if source.random() < 0.35 else "ham" for _ in range(count)]
    return [_message(label, source) for label in labels], labels


def _message(label: str, source: random.Random) -> str:
    phrases = SPAM_PHRASES if label == "spam" else HAM_PHRASES
    parts = source.sample(phrases, source.choice((1, 1, 2)))
    if source.random() < 0.05:
        parts.append(source.choice(HAM_PHRASES if label == "spam" else SPAM_PHRASES))
    parts += source.sample(FILLERS, source.choice((0, 1, 2)))
    source.shuffle(parts)
    text = ". ".join(part.format(**{kind: source.choice(words) for kind, words in WORDS.items()}) for part in parts)
    return text.upper() if label == "spam" and source.random() < 0.3 else text.capitalize()
