"""Contacts in texts: e-mail addresses, telephone numbers and links."""

import re

_CONTACTS = (
    (re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]+"), "[email]"),
    (re.compile(r"(?:https?://|www\.)\S+"), "[link]"),
    (re.compile(r"(?<!\w)\+?\(?\d[\d\s().-]{7,}\d(?!\w)"), "[phone]"),
)


def without_contacts(text: str) -> str:
    """The text with the kind of each contact in its place."""
    for pattern, name in _CONTACTS:
        text = pattern.sub(name, text)
    return text
